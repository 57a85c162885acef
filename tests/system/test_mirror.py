"""tests/unit mirrors rlopt: which module a file tests is said by its name, and every module has such a file."""

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest

from tests.support.sources import ROOT, files, imported, within

UNIT = ROOT / "tests/unit"
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
MODULES = {file.relative_to(ROOT / "rlopt").with_suffix("") for file in files() if not file.name.startswith("__")}
PACKAGES = {file.parent.relative_to(ROOT / "rlopt") for file in files() if file.name == "__init__.py"} - {Path()}
LONGEST_NAME = 60

# module: (the file that tests it, why it has none of its name in tests/unit)
ELSEWHERE: dict[str, tuple[str, str]] = {
    "cli/exit_codes": ("system/test_refusals.py", "every command ends by it"),
    "cli/process": ("system/test_signals.py", "it is what surrounds a whole run"),
    "cli/sweep_run": ("system/test_sweep_ends.py", "a sweep is whole runs, here in other processes"),
    "cli/train": ("system/test_refusals.py", "it is the whole command"),
    "parallel/collectives": ("system/test_ranks.py", "a collective needs several processes"),
    "parallel/ranks": ("system/test_ranks.py", "ranks are processes"),
    "training/signals": ("system/test_signals.py", "a signal needs a process"),
}


def subject(test: Path, known: set[Path] = MODULES | PACKAGES) -> Path | None:
    """What tests/unit/a/test_b_c.py tests: a/b_c or a/b in rlopt, the longest that there is, or the package a itself."""
    folder, stem = test.relative_to(UNIT).parent, test.stem.removeprefix("test_")
    there = [m for m in known if m.parent == folder or m == folder]
    fitting = [m for m in there if stem == m.name or stem.startswith(f"{m.name}_")]
    return max(fitting, key=lambda m: (len(m.name), len(m.parts)), default=None)


def has_code(module: Path) -> bool:
    """Whether there is something to run: a function, or a class that is more than a promise about others."""
    tree = ast.parse((ROOT / "rlopt" / module).with_suffix(".py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    real = [c for c in classes if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in c.bases)]
    return bool(real) or any(isinstance(node, ast.FunctionDef) for node in tree.body)


def subjects() -> dict[Path, list[Path]]:
    """Module or package -> its files of tests."""
    found: dict[Path, list[Path]] = {}
    for test in UNIT.rglob("test_*.py"):
        if (module := subject(test)) is not None:
            found.setdefault(module, []).append(test)
    return found


def in_battery(module: Path, by: dict[Path, list[Path]]) -> bool:
    """Whether the tests of a package that holds the module use it, as a battery for all parts of a kind does."""
    name = "rlopt." + ".".join(module.parts)
    batteries = [test for package in module.parents for test in by.get(package, ())]
    return any(within(found, name) for test in batteries for found in used(test))


@cache
def used(test: Path) -> set[str]:
    """What a test imports of rlopt, also by way of tests/support; a name of a package counts for its module."""
    found: set[str] = set()
    for name in imported(test.read_text()):
        helper = ROOT / f"{name.replace('.', '/')}.py"
        if name.startswith("tests.support.") and helper.is_file():
            found |= {n for n in imported(helper.read_text()) if within(n, "rlopt")}
        elif within(name, "rlopt"):
            found.add(name)
    return found | {defined for name in found if (defined := where_defined(name))}


def where_defined(name: str) -> str | None:
    package, _, attribute = name.rpartition(".")
    if not (ROOT / package.replace(".", "/") / "__init__.py").is_file():
        return None
    return getattr(getattr(importlib.import_module(package), attribute, None), "__module__", None)


def test_every_unit_test_is_of_a_module():
    assert [str(test.relative_to(ROOT)) for test in UNIT.rglob("test_*.py") if subject(test) is None] == []


def test_every_module_has_a_unit_test():
    by = subjects()
    lacking = {str(m) for m in MODULES if has_code(m) and m not in by and not in_battery(m, by)}
    assert sorted(lacking - ELSEWHERE.keys()) == []


@pytest.mark.parametrize("module", sorted(ELSEWHERE))
def test_what_is_tested_elsewhere_is_tested_there(module):
    file, why = ELSEWHERE[module]
    assert Path(module) in MODULES and Path(module) not in subjects() and why
    assert (ROOT / "tests" / file).is_file()


def test_names_are_short_and_say_something():
    names = [
        node.name
        for test in TESTS
        for node in ast.walk(ast.parse(test.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(names) > 500
    assert [name for name in names if name.startswith("test_") and len(name) > LONGEST_NAME] == []
    assert [test.name for test in TESTS if test.stem.endswith(("_more", "_misc", "_other", "_2"))] == []


def test_every_folder_of_tests_is_a_package():
    folders = {test.parent for test in TESTS}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_longest_name_decides_what_a_file_tests():
    known = {Path("core"), Path("core/kl"), Path("core/kl_clip"), Path("kl")}
    assert subject(UNIT / "core/test_kl_clip_state.py", known) == Path("core/kl_clip")
    assert subject(UNIT / "core/test_kl.py", known) == Path("core/kl")
    assert subject(UNIT / "core/test_core_kl.py", known) == Path("core")
    assert subject(UNIT / "core/test_kls.py", known) is None and subject(UNIT / "test_kl_clip.py", known) == Path("kl")
