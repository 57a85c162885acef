"""scripts/bootstrap and what it calls: what is asked for is installed once, by uv where it can be had. Nothing is installed here."""

import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# stands for uv, which locks .venv/.lock, and waits where another has it; writes down what it was asked for
RECORD = """#!{python}
import fcntl, sys
fcntl.flock(open({venv!r} + "/.lock", "w"), fcntl.LOCK_EX | fcntl.LOCK_NB)
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
sys.exit({code})
"""

# stand for the modules: a virtual environment without anything in it, and a pip that can install nothing
MODULES = {
    "venv": """import os, pathlib, sys
venv = pathlib.Path(sys.argv[1])
(venv / "bin").mkdir(exist_ok=True)
(venv / "lib/python3/site-packages").mkdir(parents=True, exist_ok=True)
(venv / "bin/python").exists() or os.symlink(sys.executable, venv / "bin/python")
""",
    "pip": "import sys\nsys.exit(1)\n",
}


@pytest.fixture
def prepare():
    spec = importlib.util.spec_from_file_location("prepare", ROOT / "scripts/prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Clone:
    """A clone's scripts, with stand-ins for venv, pip and uv."""

    def __init__(self, root: Path):
        self.root, self.log = root, root / "log"
        (root / "scripts").mkdir()
        for name in ("scripts/bootstrap", "scripts/prepare.py", "scripts/constraints.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, root / name)
        (root / "modules").mkdir()
        for name, text in MODULES.items():
            (root / "modules" / f"{name}.py").write_text(text)
        self.uv(0)

    def uv(self, code: int) -> None:
        tool = self.root / "bin/uv"
        tool.parent.mkdir(exist_ok=True)
        venv = str(self.root / ".venv")
        tool.write_text(RECORD.format(python=sys.executable, venv=venv, log=str(self.log), code=code))
        tool.chmod(tool.stat().st_mode | stat.S_IEXEC)

    def start(self, *extras: str) -> subprocess.Popen:
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen([self.root / "scripts/bootstrap", *extras], stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "PATH": path, "PYTHON": sys.executable,
                                     "PYTHONPATH": str(self.root / "modules")})  # fmt: skip

    def bootstrap(self, *extras: str) -> tuple[int, str]:
        process = self.start(*extras)
        said = process.communicate(timeout=120)[1]
        return process.returncode, said

    def asked(self) -> list[str]:
        """The extras of each installation so far."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.rpartition(str(self.root))[2].strip("[]") for line in lines]


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path)


def test_extras_are_added_and_nothing_is_done_twice(clone):
    code, said = clone.bootstrap()
    assert code == 0 and "preparing it for training" in said and "ready after" in said
    assert clone.bootstrap() == (0, "") and clone.asked() == [""]
    assert clone.bootstrap("plot")[0] == clone.bootstrap("video")[0] == 0
    assert clone.asked() == ["", "plot", "plot,video"]
    assert clone.bootstrap() == clone.bootstrap("video", "plot") == (0, "")
    assert len(clone.asked()) == 3


@pytest.mark.parametrize("value, compiled", [("1", True), ("", False)])
def test_modules_are_compiled_where_python_keeps_none(value, compiled, clone, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", value)
    assert clone.bootstrap()[0] == 0
    assert ("--compile-bytecode" in clone.log.read_text()) == compiled


def test_what_dev_contains_is_there_after_dev(clone):
    assert clone.bootstrap("dev")[0] == 0
    for extra in ("docs", "experiments", "plot", "mujoco"):
        assert clone.bootstrap(extra) == (0, "")


def test_a_change_of_what_is_wanted_keeps_the_extras(clone):
    clone.bootstrap("plot")
    with (clone.root / "scripts/constraints.txt").open("a") as file:
        file.write("another==1\n")
    assert clone.bootstrap()[0] == 0
    assert clone.bootstrap("plot") == (0, "") and clone.asked() == ["plot", "plot"]


def test_an_installation_that_failed_is_done_again(clone):
    clone.uv(1)
    code, said = clone.bootstrap("plot")  # and so does pip, which follows
    assert code == 1 and "uv failed; once more, with pip" in said and "ready" not in said
    clone.uv(0)
    assert clone.bootstrap()[0] == 0 and clone.asked() == ["plot", "plot"]


def test_a_copy_of_rlopt_that_hides_the_clone_is_replaced(clone):
    clone.bootstrap()
    packages = next((clone.root / ".venv/lib").glob("python*/site-packages"))
    (packages / "rlopt").mkdir()
    assert clone.bootstrap() == (0, "")  # an editable installation puts the conf folder there
    (packages / "rlopt/__init__.py").touch()
    assert clone.bootstrap()[0] == 0 and clone.asked() == ["", ""]


def test_two_at_once_install_one_after_the_other(clone):
    processes = [clone.start("plot"), clone.start("plot")]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert clone.asked() == ["plot"] and sorted("ready after" in each for each in said) == [False, True]


def test_an_unknown_extra_is_named_and_nothing_happens(clone):
    code, said = clone.bootstrap("plots")
    assert code == 2 and said.startswith(".venv: there is no extra 'plots'; choose from mujoco, ")
    assert not (clone.root / ".venv").exists()


def test_uv_is_told_what_pip_is_told(prepare):
    listed = """:env:.find-links='/a /b'
global.cert='/ca.crt'
global.extra-index-url='https://one.example/simple\\nfile:///two'
global.find-links='/c'
global.index-url='https://main.example/simple'
global.timeout='60'
"""
    assert prepare.uv_environment(listed, {"HOME": "/h", "SSL_CERT_FILE": "/mine"}) == {
        "HOME": "/h", "SSL_CERT_FILE": "/mine", "UV_FIND_LINKS": "/a,/b",
        "UV_DEFAULT_INDEX": "https://main.example/simple", "UV_INDEX": "https://one.example/simple file:///two",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }  # fmt: skip
    assert prepare.uv_environment("", {"HOME": "/h"}) == {"HOME": "/h"}


def test_scripts_ask_for_extras_that_there_are():
    asked = {}
    for script in (ROOT / "scripts").iterdir():
        if script.is_file() and (found := re.search(r'"\$root/scripts/bootstrap"(.*)', script.read_text())):
            asked[script.name] = found[1].split()
    assert asked["train"] == [] and asked["test"] == ["dev"] and len(asked) >= 6
    assert {extra for extras in asked.values() for extra in extras} <= set(EXTRAS)


def test_no_message_names_the_package_of_the_index():
    """pip install 'rlopt[plot]' would bring another project; rlopt's own name there is rlopt-geometry."""
    pages = [path for folder in ("rlopt", "conf") for path in (ROOT / folder).rglob("*.*") if path.suffix != ".pyc"]
    pages += [ROOT / "README.md", *(ROOT / ".github").glob("*.md"), *(ROOT / "experiments").rglob("*.md")]
    wrong = [
        path for path in pages if path.is_file() and re.search(r"install\W+rlopt\b(?!-geometry)", path.read_text())
    ]
    assert len(pages) > 200 and wrong == []


def test_all_has_every_extra_of_a_user(prepare):
    assert set(prepare.all_extras(["all"], EXTRAS)) == set(EXTRAS) - {"dev", "docs", "experiments"}


def test_an_extra_brings_the_extras_that_it_names(prepare):
    assert prepare.all_extras(["warp"], EXTRAS) == ["mujoco", "warp"]
