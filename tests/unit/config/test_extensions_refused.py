"""Parts and environments of one's own come from the folders that the command line names, and from nowhere else."""

import sys
from pathlib import Path

import pytest
import yaml

from rlopt.config.extensions import extended
from rlopt.errors import UserError
from tests.support.command_line import SHORT
from tests.support.extending import FILES, PLAIN, write

pytestmark = pytest.mark.usefixtures("elsewhere")
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
    ("env", {"wrappers": ["trap:Mine"]}),
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


def test_an_environment_module_is_imported_if_it_is_named(run, monkeypatch, tmp_path):
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
    "no such group": ({"metrics/mine.yaml": METRIC}, ["holds no choice", "metrics is no group (did you mean metric?)"]),
    "a name that exists": ({"metric/fisher.yaml": METRIC}, ["there is a metric fisher already"]),
    "no code": ({"metric/mine.yaml": METRIC}, ["metric._target_", "metric.mine.Mine", "metric/mine.py"]),
    "no class": ({"metric/mine.yaml": METRIC, "metric/mine.py": ""}, ["no class Mine in metric.mine"]),
    "another's class": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "from pathlib import Path as Mine"}, ["no class Mine in metric.mine"],
    ),
    "no metric": (
        {"metric/mine.yaml": METRIC, "metric/mine.py": "class Mine:\n    supplies = frozenset()"},
        ["metric._target_ must name a metric", "has no requirements and no init and no bind"],
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
