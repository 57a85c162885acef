"""scripts/paths: how much of rlopt a reader opens to follow a run, an update and a resumed run."""

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/paths"
SOURCE = """\
from functools import cache, wraps


def shout(f):
    @wraps(f)
    def inner(*args):
        return f(*args)
    return inner


class Number:
    double = staticmethod(lambda n: 2 * n)

    def __init__(self, n):
        self.n = n

    @property
    def squares(self):
        return [n * n for n in range(self.n)]

    def unused(self):
        return None


@cache
@shout
def total(n):
    return sum(x for x in Number(n).squares)
"""


@pytest.fixture(scope="module")
def paths() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("paths", str(SCRIPT))
    spec = importlib.util.spec_from_loader("paths", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted/__init__.py").write_text("")
    (tmp_path / "planted/numbers_of.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "planted"
    sys.modules.pop("planted.numbers_of", None)
    sys.modules.pop("planted", None)


@pytest.fixture(scope="module")
def table() -> dict[str, list[str]]:
    """Path -> the columns of its row."""
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}


def test_every_path_is_within_its_limit(table):
    assert list(table) == ["path", "train", "trpo", "ppo", "resume", "resume's"]


def test_the_readme_says_what_a_trpo_update_takes(table):
    row = dict(zip(("files", "limit", "aim", "lines"), table["trpo"], strict=False))
    assert f"functions of {row['files']} files and {row['lines']} lines" in (ROOT / "README.md").read_text()


def test_each_function_that_runs_counts_once(paths, package):
    """With its whole body, what is nested in it included; not the module's, a class's or a function that is not called."""
    watch = paths.Watch(package)
    watch.start()
    module = importlib.import_module("planted.numbers_of")  # whose decorator runs
    watch.stop()
    assert watch.lines() == {"numbers_of.py": [4, 5, 6, 7, 8]}
    watch = paths.Watch(package)
    watch.start()
    module.total(3), module.total(4), module.Number.double(2)
    watch.stop()
    assert watch.lines() == {"numbers_of.py": [6, 7, 14, 15, 18, 19, 27, 28]}


def test_what_is_above_a_limit_is_named(paths, monkeypatch):
    monkeypatch.setattr(paths, "LIMITS", {"train": (1, 10)})
    assert paths.above({"train": {"a.py": 10}}) == []
    assert paths.above({"train": {"a.py": 10, "b.py": 1}}) == [
        "train: 2 files, of at most 1",
        "train: 11 lines, of at most 10",
    ]


def test_limits_and_aims_are_of_the_same_paths(paths):
    assert paths.LIMITS.keys() == paths.AIMS.keys()
