"""CONTRIBUTING alone is enough: its code is written into a copy of the tree, where it trains; and its versions are right."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / ".github/CONTRIBUTING.md").read_text()
SHORT = ["total_steps=256", "batch_size=128", "env.num_envs=8", "evaluation.episodes=2", "record.tensorboard=false"]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"## {title}\n")[2], flags=re.MULTILINE)[0]


def files(text: str) -> dict[str, str]:
    """Path -> content, of every block that begins with a comment that is a path."""
    blocks = re.findall(r"^```(?:yaml|python)\n# (\S+/\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return dict(blocks)


def commands(text: str) -> list[list[str]]:
    return [line.split() for line in re.findall(r"^```shell\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def example(text: str, group: str) -> tuple[dict[str, str], list[str]]:
    """The .yaml and .py of a section that are for a group, and the command that trains with them."""
    written = {path: code for path, code in files(text).items() if f"/{group}/" in path or f"/{group}s/" in path}
    assert sorted(Path(path).suffix for path in written) == [".py", ".yaml"]
    name = next(Path(path).stem for path in written)
    return written, next(command for command in commands(text) if f"{group}={name}" in command)


@pytest.fixture
def tree(tmp_path) -> Path:
    for folder in ("rlopt", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("group", ["solver", pytest.param("metric", marks=pytest.mark.learning), "policy"])
def test_an_outsider_adds_a_part_with_two_files(tree, group):
    heading = "A policy network" if group == "policy" else "A solver, metric, step, damping or objective"
    written, command = example(section(heading), group)
    for path, code in written.items():
        assert not (tree / path).exists()
        (tree / path).write_text(code)
    assert command[:2] == ["rlopt", "train"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    typed = [sys.executable, "-m", "rlopt", *command[1:], *SHORT, "run_dir=run"]
    done = subprocess.run(typed, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tree / "run/config.yaml").read_text())
    module = next(path for path in written if path.endswith(".py")).removesuffix(".py").replace("/", ".")
    assert config[group]["_target_"].startswith(f"{module}.")
    assert len((tree / "run/scalars.csv").read_text().splitlines()) == 3  # a header and two updates
    helped = subprocess.run([*typed[:3], "train", "--help"], cwd=tree, env=environment, capture_output=True, text=True)
    assert f"  {Path(module.replace('.', '/')).name} " in helped.stdout


def test_the_code_of_the_page_has_the_style_of_the_code(tree):
    shutil.copy(ROOT / "pyproject.toml", tree)
    written = [path for path in files(PAGE) if path.endswith(".py")]
    for path in written:
        (tree / path).write_text(files(PAGE)[path])
    for check in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *written], cwd=tree, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_programs_that_check_are_pinned_to_one_version():
    pinned = dict(line.split("==") for line in (ROOT / "scripts/constraints.txt").read_text().splitlines())
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    found = [wanted.split("==") for hook in hooks for wanted in hook["additional_dependencies"]]
    assert {name for name, _ in found} == {"ruff", "mypy"}
    assert all(pinned[name] == version for name, version in found)


def test_the_workflow_runs_the_script_alone():
    steps = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]["test"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["scripts/test"]


def test_paths_on_the_page_exist():
    new = set(files(PAGE))
    named = set(re.findall(r"`((?:rlopt|conf|tests|scripts|experiments|\.github)(?:/[\w./]+)?)`", PAGE)) - new
    assert len(named) > 20
    planned = {"tests/unit/core/solvers/test_cg.py"}
    assert [path for path in sorted(named - planned) if not (ROOT / path).exists()] == []
