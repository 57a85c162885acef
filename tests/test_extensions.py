"""Parts and environments of one's own: found in the folders that the command line names, and nowhere else."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlopt import catalogue, cli
from rlopt.build import load
from rlopt.errors import UserError
from rlopt.extensions import extended
from rlopt.fit import pairs
from tests.test_config import learns_once, small_config

SHORT = ["total_steps=40", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]
HEAD = "from dataclasses import dataclass\nimport torch\nfrom typing import ClassVar\n"
FILES = {
    "metric/mine.yaml": "# my metric\n_target_: metric.mine.Mine\nscale: 2.0   # of J^T J\n",
    "metric/mine.py": HEAD
    + """
from rlopt.core.curvature import PullBack
from rlopt.core.parts import PRODUCT, SEMIDEFINITE
from rlopt.core.checks import positive
from .helper import times

@dataclass(frozen=True)
class Mine:
    scale: float
    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, SEMIDEFINITE})

    def __post_init__(self):
        positive("scale", self.scale)

    def init(self):
        return {}

    def bind(self, state, tape, head, samples, objective):
        return PullBack(tape, samples.share, times(self.scale)), state
""",
    "metric/helper.py": "def times(scale):\n    return lambda t: scale * t\n",
    "solver/mine.yaml": "# my solver\n_target_: solver.mine.Mine\nrate: 0.1\n",
    "solver/mine.py": HEAD
    + """
from rlopt.core.parts import PRODUCT, Solution

@dataclass(frozen=True)
class Mine:
    rate: float
    needs = frozenset({PRODUCT})

    def init(self):
        return {"count": 0}

    def prepare(self, state, curvature, damping):
        def solve(g):
            x = self.rate * g
            return Solution(x, 1, 0.0, torch.dot(x, curvature.product(x)), damping)

        return solve, {"count": state["count"] + 1}
""",
    "objective/mine.yaml": "# my objective\n_target_: objective.mine.Mine\n",
    "objective/mine.py": "from rlopt.core.objectives.log_prob import LogProb\n\n\nclass Mine(LogProb):\n"
    "    def __init__(self):\n        super().__init__(0.0)\n",
    "damping/mine.yaml": "# my damping\n_target_: damping.mine.Mine\nvalue: 0.2\n",
    "damping/mine.py": "from rlopt.core.damping.constant import Constant\n\n\nclass Mine(Constant):\n    pass\n",
    "step/mine.yaml": "# my step\n_target_: step.mine.Mine\nrate: 0.01\n",
    "step/mine.py": "from rlopt.core.steps.fixed import Fixed\n\n\nclass Mine(Fixed):\n    pass\n",
    "env/mine.yaml": "# @package _global_\n# my environment\ndefaults: [any, _self_]\n"
    "env:\n  name: mine\n  id: Mine-v0\n  num_envs: 2\n",
    "env/mine.py": "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\n\n\n"
    "class Mine(CartPoleEnv):\n    pass\n\n\n"
    "if 'Mine-v0' not in gym.registry:\n    gym.register('Mine-v0', Mine, max_episode_steps=30)\n",
}
PLAIN = ["--samples", "20", "--metric", "identity", "--solver", "identity"]
ALL = [f"{group}=mine" for group in ("metric", "solver", "objective", "damping", "step", "env")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    assert catalogue.extra_dirs() == ()


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def parts(tmp_path) -> Path:
    return write(tmp_path / "my_parts", FILES)


@pytest.fixture
def run(capsys):
    def command(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_every_kind_of_part_and_an_environment_train_together(run, parts):
    code, out, err = run("train", "--extensions", "my_parts", *ALL, "metric.scale=3", "run_dir=here", *SHORT)
    assert code == 0, err
    assert out.startswith("trpo on Mine-v0")
    config = yaml.safe_load(Path("here/config.yaml").read_text())
    assert config["metric"] == {"_target_": "metric.mine.Mine", "scale": 3}
    assert config["solver"] == {"_target_": "solver.mine.Mine", "rate": 0.1}
    assert [config[g]["_target_"] for g in ("objective", "damping", "step")] == [
        "objective.mine.Mine", "damping.mine.Mine", "step.mine.Mine",
    ]  # fmt: skip


def test_a_saved_run_needs_the_folder_on_its_own_command_line(run, parts):
    typed = ["metric=mine", "solver=mine", "env=mine", "run_dir=here", *SHORT]
    assert run("train", "--extensions=my_parts", *typed)[0] == 0
    for command in (
        ["eval", "here", "--episodes", "2"],
        ["inspect", "here", *PLAIN],
    ):
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert "metric.mine.Mine" in err and "--extensions DIR" in err and len(err.splitlines()) == 1
        code, _, err = run(*command, "--extensions", "my_parts")
        assert code == 0, err
    which = ["--samples", "20", "--metric", "mine", "--solver", "mine,cg"]
    code, out, _ = run("inspect", "here", "--json", *which, "--extensions", "my_parts")
    assert code == 0
    assert {(row["metric"], row["solver"]) for row in json.loads(out)["directions"]} == {
        ("mine", "mine"),
        ("mine", "cg"),
    }


def test_the_critic_takes_them_too(run, parts):
    typed = ["critic.metric=mine", "critic.solver=mine", "critic.step=fixed"]
    assert run("train", "--extensions", "my_parts", *typed, *SHORT)[0] == 0


def test_several_runs_take_them_too(run, parts):
    code, _, err = run(
        "train", "-m", "--extensions", "my_parts", "metric=mine,fisher", "solver=mine,cg", "env=mine", *SHORT
    )
    assert code == 0, err
    assert len(list(Path("runs").glob("sweep-*/metric=*,solver=*/summary.json"))) == 4


def test_several_folders_are_one(run, tmp_path):
    write(tmp_path / "a", {k: v for k, v in FILES.items() if k.startswith("metric")})
    write(tmp_path / "b, [c] 'd'", {k: v for k, v in FILES.items() if k.startswith("solver")})
    folders = ["--extensions", "a", "--extensions", "b, [c] 'd'"]
    assert run("train", *folders, "metric=mine", "solver=mine", *SHORT)[0] == 0


def test_help_lists_them(run, parts):
    code, out, _ = run("train", "--help", "--extensions", "my_parts")
    assert code == 0
    for group in ("metric", "solver", "objective", "damping", "step"):
        assert re.search(rf"^  mine +my {group}$", out, re.MULTILINE)
    assert not re.search(r"^  mine ", run("train", "--help")[1], re.MULTILINE)


def test_without_the_folder_they_are_no_choices(run, parts):
    for typed in ("metric=mine", "solver=mine", "env=mine"):
        code, _, err = run("train", typed)
        assert code == 2
        assert f"{typed}: no such" in err


def test_the_rules_of_fit_hold_for_them(run, parts):
    code, _, err = run("train", "--extensions", "my_parts", "metric=mine", "solver=kfac")
    assert code == 2
    assert "solver=kfac cannot serve metric=mine: it needs root" in err
    assert "solver=mine" in err and "solver=cg" in err


@pytest.mark.parametrize("typed, wanted", [
    ("metric.scale=abc", "metric.scale must be a number"),
    ("metric.scale=-1", "metric.scale must be a finite number above 0; got -1.0"),
    ("metric.scales=1", "there is no option metric.scales"),
])  # fmt: skip
def test_their_options_are_checked_like_others(run, parts, typed, wanted):
    code, _, err = run("train", "--extensions", "my_parts", "metric=mine", "solver=cg", typed)
    assert code == 2
    assert wanted in err


def test_they_pass_the_test_of_every_allowed_pair(parts):
    with extended([parts]):
        found = {name: (metric, solvers) for name, metric, solvers in pairs()}
        assert set(found["mine"][1]) >= {"mine", "cg", "dense"} and "mine" in found["fisher"][1]
        for metric in ("mine", "fisher"):
            for solver in ("mine", "cg"):
                both = {"metric": metric, "solver": solver}
                assert learns_once(
                    small_config("", {group: load(catalogue.file(group, n)) for group, n in both.items()})
                )


def test_a_process_of_its_own(run, parts):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    typed = ["train", "--extensions", "my_parts", *ALL, *SHORT, "evaluation.episodes=0", "run_dir=here"]
    subprocess.run([sys.executable, "-m", "rlopt", *typed], check=True, capture_output=True, env=environment)
    evaluate = ["eval", "here", "--json", "--episodes", "2"]
    refused = subprocess.run(
        [sys.executable, "-m", "rlopt", *evaluate], capture_output=True, text=True, env=environment
    )
    assert refused.returncode == 2 and "--extensions DIR" in refused.stderr and len(refused.stderr.splitlines()) == 1
    code, out, _ = run(*evaluate, "--extensions", "my_parts")
    assert code == 0 and json.loads(out)["env"] == "Mine-v0"


def test_the_example_of_the_readme(run, tmp_path):
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    section = re.search(r"^## Your own metric or solver\n(.*?)^## ", readme, re.DOTALL | re.MULTILINE)[1]
    for block in re.findall(r"```\w+\n(.*?)```", section, re.DOTALL):
        name, _, text = block.removeprefix("# ").partition("\n")
        write(tmp_path, {name: text})
    (command,) = re.findall(r"^    rlopt (.*)$", section, re.MULTILINE)
    assert run(*command.split(), *SHORT)[0] == 0
    assert "from products" in run("train", "--help", "--extensions", "my_parts")[1]


TRAP = "from pathlib import Path\nPath('executed').touch()\nclass Mine:\n    pass\n"


@pytest.mark.parametrize("place, value", [
    ("metric", {"_target_": "trap.Mine"}),
    ("metric", {"_target_": "my_parts.trap.Mine"}),
    ("metric", {"_target_": "rlopt_extensions.trap.Mine"}),
    ("metric", {"_target_": "rlopt.core...trap.Mine"}),
    ("solver", {"_target_": "trap.Mine"}),
    ("critic", {"metric": {"_target_": "trap.Mine"}}),
    ("extensions", ["."]),
    ("hydra", {"searchpath": ["."]}),
    ("env", {"id": "trap:Mine-v0"}),
    ("env", {"kwargs": {"entry_point": "trap:Mine"}}),
])  # fmt: skip
@pytest.mark.parametrize("command", [["eval", "here"], ["inspect", "here", *PLAIN]], ids=lambda c: c[0])
def test_a_config_file_causes_no_import(run, monkeypatch, tmp_path, place, value, command):
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, {"trap.py": TRAP, "my_parts/trap.py": TRAP})
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    path = Path("here/config.yaml")
    config = yaml.safe_load(path.read_text())
    if isinstance(value, dict):
        config[place] = {**config.get(place, {}), **value}
    else:
        config[place] = value
    path.write_text(yaml.safe_dump(config))
    code, _, err = run(*command)
    assert code in (0, 2) and (code == 0) == (place in ("extensions", "hydra")), err
    assert len(err.splitlines()) == code / 2
    assert not Path("executed").exists()


def test_a_folder_named_runs_no_file_that_is_not_asked_for(run, parts):
    write(parts, {"metric/other.py": TRAP, "trap.py": TRAP})
    assert run("train", "--extensions", "my_parts", "metric=mine", "solver=mine", *SHORT)[0] == 0
    assert not Path("executed").exists()


def test_a_module_of_an_environment_is_imported_where_the_command_line_names_it(run, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, {"my_envs_.py": FILES["env/mine.py"].replace("Mine-v0", "Other-v0")})
    assert run("train", "env.id=my_envs_:Other-v0", "run_dir=here", *SHORT)[0] == 0
    monkeypatch.delitem(sys.modules, "my_envs_")
    code, _, err = run("eval", "here", "--episodes", "2")
    assert code == 2
    assert "add --import my_envs_" in err and len(err.splitlines()) == 1
    assert run("eval", "here", "--episodes", "2", "--import", "my_envs_")[0] == 0


METRIC = "_target_: metric.mine.Mine\n"
BAD = {
    # what is in the folder -> what the line must contain
    "nothing": ({}, ["holds no choice", "metric/NAME.yaml"]),
    "no such group": ({"metrics/mine.yaml": METRIC}, ["holds no choice", "metrics is no group; did you mean metric"]),
    "a name that exists": ({"metric/fisher.yaml": METRIC}, ["there is a metric fisher already"]),
    "no code": ({"metric/mine.yaml": METRIC}, ["metric._target_", "metric.mine.Mine", "metric/mine.py"]),
    "no class": ({"metric/mine.yaml": METRIC, "metric/mine.py": ""}, ["no class Mine in metric.mine"]),
    "another's class": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "from pathlib import Path as Mine"}, ["no class Mine in metric.mine"],
    ),
    "no metric": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "class Mine:\n    supplies = frozenset()"},
        ["metric._target_ must name a metric", "has no init and no bind"],
    ),
    "a syntax error": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "x = 1\nclass Mine("}, ["metric/mine.py", "SyntaxError", "line 2"],
    ),
    "an error": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "x = 1\n1 / 0"},
        ["metric/mine.py", "ZeroDivisionError", "line 2", "division by zero"],
    ),
    "a missing module": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "import no_such_module"}, ["metric/mine.py", "no_such_module"],
    ),
    "an end": ({"metric/mine.yaml": METRIC, "metric/mine.py": "raise SystemExit(0)"}, ["metric/mine.py", "SystemExit"]),
    "a target outside": ({"metric/mine.yaml": "_target_: os.system\n"}, ["metric._target_", "'os.system'"]),
    "no target": ({"metric/mine.yaml": "scale: 2\n"}, ["metric._target_", "None"]),
    "no yaml": ({"metric/mine.yaml": "a: [1\n"}, ["mine.yaml"]),
    "a list": ({"metric/mine.yaml": "- 1\n"}, ["metric"]),
    "empty": ({"metric/mine.yaml": ""}, ["metric"]),
    "an environment's error": (
        {"metric/mine.yaml": METRIC, "env/mine.py": "1 / 0"}, ["env/mine.py", "ZeroDivisionError", "line 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_a_folder_that_is_wrong_is_one_line(run, tmp_path, case):
    files, wanted = case
    (tmp_path / "bad").mkdir()
    write(tmp_path / "bad", files)
    code, out, err = run("train", "--extensions", "bad", "metric=mine", "solver=cg")
    assert (code, out) == (2, "")
    assert err.startswith("rlopt: ") and len(err.splitlines()) == 1
    assert [part for part in wanted if part not in err] == [], err


@pytest.mark.parametrize("arguments, wanted", [
    (["--extensions"], "--extensions needs a value: --extensions DIR"),
    (["--extensions="], "--extensions needs a value"),
    (["--extensions", "-m"], "--extensions needs a value"),
    (["--extensions", "nowhere"], "there is no such folder"),
    (["--import", "no_such_module"], "no_such_module cannot be imported: ModuleNotFoundError"),
    (["extensions=[my_parts]"], "--extensions DIR"),
])  # fmt: skip
def test_flags_that_are_wrong_are_one_line(run, arguments, wanted):
    code, _, err = run("train", *arguments)
    assert code == 2
    assert wanted in err and len(err.splitlines()) == 1


def test_two_folders_with_one_name_are_refused(parts, tmp_path):
    other = write(tmp_path / "other", FILES)
    with pytest.raises(UserError, match="other: there is a .* mine already"), extended([parts, other]):
        pass
