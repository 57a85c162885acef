"""Parts and environments of one's own train, are saved and are listed like those that are there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlopt.cli import main as cli
from rlopt.config import choices as catalogue
from rlopt.config.catalogue import pairs
from rlopt.config.extensions import extended
from rlopt.config.saved import load
from rlopt.guide import tutorial_own
from tests.support.command_line import SHORT
from tests.support.configurations import learns_once, small_config
from tests.support.extending import FILES, PLAIN, write
from tests.support.launching import environment

pytestmark = pytest.mark.usefixtures("elsewhere")

ALL = [f"{group}=mine" for group in ("metric", "solver", "objective", "damping", "step", "env")]


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
    typed = ["train", "--extensions", "my_parts", *ALL, *SHORT, "run_dir=here"]
    subprocess.run([sys.executable, "-m", "rlopt", *typed], check=True, capture_output=True, env=environment)
    evaluate = ["eval", "here", "--json", "--episodes", "2"]
    refused = subprocess.run(
        [sys.executable, "-m", "rlopt", *evaluate], capture_output=True, text=True, env=environment
    )
    assert refused.returncode == 2 and "--extensions DIR" in refused.stderr and len(refused.stderr.splitlines()) == 1
    code, out, _ = run(*evaluate, "--extensions", "my_parts")
    assert code == 0 and json.loads(out)["env"] == "Mine-v0"


def test_a_folder_of_environments_alone_will_do(run):
    write(Path("only"), {"env/mine.py": FILES["env/mine.py"]})
    typed = ["--extensions", "only", "env.id=Mine-v0", "env.num_envs=2", *SHORT, "run_dir=here"]
    code, out, _ = run("train", *typed)
    assert code == 0 and f"eval here --extensions {Path('only').resolve()}" in out
    assert run("eval", "here", "--extensions", "only", "--episodes=1")[0] == 0


def test_a_script_of_the_working_directory_can_be_imported():
    """By the command itself, where no path leads to the folder, and by a process of its own; its neighbours too."""
    write(
        Path.cwd(),
        {"scripted.py": "import neighbour", "neighbour.py": FILES["env/mine.py"], "json.py": "raise SystemError"},
    )
    typed = ["train", "--import", "scripted", "env.id=Mine-v0", "env.num_envs=2", *SHORT]
    done = subprocess.run([sys.executable, "-m", "rlopt", *typed, "run_dir=here"], capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "eval here --import scripted" in done.stdout
    assert str(Path.cwd()) not in sys.path
    try:
        assert cli.main([*typed, "run_dir=there"]) == 0
        assert str(Path.cwd()) not in sys.path
    finally:
        for name in ("scripted", "neighbour"):
            sys.modules.pop(name, None)


def test_the_solver_of_the_guide(run, tmp_path):
    section = re.search(r"^## A solver\n(.*?)^## ", tutorial_own.__doc__ or "", re.DOTALL | re.MULTILINE)[1]
    for block in re.findall(r"```(?:yaml|python)\n(.*?)```", section, re.DOTALL):
        name, _, text = block.removeprefix("# ").partition("\n")
        write(tmp_path, {name: text})
    (command,) = re.findall(r"^rlopt (train .*)$", section, re.MULTILINE)
    assert run(*command.split(), *SHORT)[0] == 0
    assert "from products" in run("train", "--help", "--extensions", "my_parts")[1]
