"""The image and the workflow name what there is. Neither is built or run here."""

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PINS = dict(line.split("==") for line in (ROOT / "scripts/constraints.txt").read_text().split())
LINES = [line for line in (ROOT / ".github/Dockerfile").read_text().splitlines() if line and not line.startswith("#")]


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def test_every_line_of_the_image_is_an_instruction():
    known = {"FROM", "ARG", "RUN", "COPY", "USER", "WORKDIR", "ENV", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in LINES} == known and LINES[0].startswith("FROM ")


def test_the_image_copies_what_there_is_and_what_the_build_reads():
    copied = {source for line in instructions("COPY") for source in line.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    assert copied >= {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "rlopt", "conf"}


def test_the_image_copies_what_the_wheel_is_made_of():
    """Hatch ends with "Forced include not found" where a path is missing; it keeps its place below pyproject.toml."""
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    for path in [*wheel["packages"], *wheel["force-include"]]:
        assert f"{path} /source/{path}" in instructions("COPY")
        if (ROOT / ".git").exists() and shutil.which("git"):
            listed = subprocess.run(["git", "ls-files", path], cwd=ROOT, capture_output=True, check=True)
            assert listed.stdout, f"{path} is not in git"


def test_the_image_installs_pinned_torch_and_known_extras():
    first, second, *_ = [shlex.split(line) for line in instructions("RUN") if "pip install" in line]
    assert f"torch=={PINS['torch']}" in first and "TORCH_INDEX=" in instructions("ARG")
    [wanted] = [re.fullmatch(r"/source\[(.*)\]", text) for text in second if "[" in text]
    assert set(wanted[1].split(",")) <= set(PROJECT["optional-dependencies"])
    constraint = second[second.index("--constraint") + 1]
    assert any(line.endswith(f" {constraint}") for line in instructions("COPY"))


def test_the_image_runs_the_command_and_not_as_root():
    assert instructions("ENTRYPOINT") == ['["rlopt"]'] and "rlopt" in PROJECT["scripts"]
    [user] = instructions("USER")
    assert user != "root" and any(f"useradd --create-home {user}" in line for line in instructions("RUN"))
    version = instructions("FROM")[0].removeprefix("python:").removesuffix("-slim")
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_the_workflow_runs_scripts_and_tests_that_there_are():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    typed = [word for job in jobs.values() for step in job["steps"] for word in step.get("run", "").split()]
    named = [word for word in typed if word.startswith(("scripts/", "tests/", ".github/"))]
    assert len(named) >= 6 and all((ROOT / word).exists() for word in named)
    assert jobs["hydra-next"]["continue-on-error"] is True


def test_the_workflow_and_the_guide_name_the_same_pythons():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    first, *others = jobs["test"]["strategy"]["matrix"]["python"]
    minors = [int(version.removeprefix("3.")) for version in (first, *others)]
    assert PROJECT["requires-python"] == f">={first}" and minors == list(range(minors[0], 15))
    guide = " ".join((ROOT / "rlopt/guide/installing.py").read_text().split())
    assert f"runs all tests on Python {first} to {others[-1]}" in guide and "No test has run on 3.14 yet" in guide


def test_hydra_is_held_below_the_version_that_was_not_tried():
    [hydra] = [text for text in PROJECT["dependencies"] if text.startswith("hydra-core")]
    assert hydra == "hydra-core>=1.3.2,<1.5" and PINS["hydra-core"].startswith("1.3.")


def test_extras_of_rlopt_are_asked_of_its_own_distribution():
    """rlopt on the public index is another project."""
    extras = PROJECT["optional-dependencies"]
    wanted = [text for texts in [PROJECT["dependencies"], *extras.values()] for text in texts]
    parts = [re.match(r"([\w.-]+)(?:\[([\w,-]*)\])?", text).groups() for text in wanted]
    assert not [text for text, (name, _) in zip(wanted, parts, strict=True) if name.lower() == "rlopt"]
    asked = [named.split(",") for name, named in parts if name == PROJECT["name"]]
    assert len(asked) >= 5 and {name for names in asked for name in names} <= set(extras)


@pytest.mark.parametrize("name", ["torch", "gymnasium", "numpy", "tensorboard", "safetensors", "rich"])
def test_what_is_pinned_is_allowed(name):
    [bound] = [m[1] for text in PROJECT["dependencies"] if (m := re.fullmatch(rf"{name}>=([\d.]+)", text))]
    pin = PINS[name]
    assert [int(n) for n in pin.split(".")[:2]] >= [int(n) for n in (bound + ".0").split(".")[:2]]


@pytest.fixture
def versions(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("other_versions")


def test_the_lowest_versions_are_the_bounds(versions):
    assert versions.lowest("torch", PROJECT["dependencies"]) == "torch==2.6.0"
    assert versions.lowest("safetensors", ["safetensors>=0.4.5"]) == "safetensors==0.4.5"
    assert versions.pinned("torch") == f"torch=={PINS['torch']}"


def test_other_versions_install_and_test_what_there_is(versions):
    assert set(versions.LOWEST_EXTRAS) <= set(PROJECT["optional-dependencies"])
    assert all(versions.pinned(name) for name in versions.TOOLS)
    assert all((ROOT / path).exists() for path in versions.FAST)


def test_a_version_that_is_none_is_one_line(versions, capsys):
    assert versions.main("--python") == versions.main("--python", "-q") == 2
    assert capsys.readouterr().err == "scripts/test: --python wants a version, such as 3.13\n" * 2
