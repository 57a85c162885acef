import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "rlopt").rglob("*.py"))

# lowest first; a file imports from its own floor and from those below
FLOORS = [
    ("rlopt.core", "rlopt.errors", "rlopt.config.choices"),
    ("rlopt.policy", "rlopt.rollout", "rlopt.tasks"),
    ("rlopt.run", "rlopt.report"),
    (
        *(
            "rlopt.config.extensions",
            "rlopt.config.overrides",
            "rlopt.config.precedence",
            "rlopt.config.schema",
            "rlopt.config.options",
            "rlopt.config.compose",
            "rlopt.config.compatibility",
            "rlopt.training.networks",
            "rlopt.training.factory",
            "rlopt.training.restore",
            "rlopt.api",
            "rlopt.guide",
        ),
        "rlopt.library",
    ),
    ("rlopt.commands", "rlopt.cli.main", "rlopt.__main__"),
]
KNOW_HYDRA = ("rlopt.config.compose", "rlopt.config.overrides", "rlopt.config.precedence", "rlopt.cli.sweep")
ONE_UPDATE = ["update.py", "metrics/fisher.py", "solvers/cg.py", "steps/kl_line_search.py"]


def module_name(file: Path, root: Path = ROOT) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str, is_package: bool) -> set[str]:
    """Everything a module imports, wherever in its text; ``from a import b`` is both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                kept = parents[: len(parents) - node.level + is_package]
                base = ".".join([*kept, base] if base else kept)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def read(files: list[Path], root: Path = ROOT) -> dict[str, set[str]]:
    return {
        module_name(file, root): imported(file.read_text(), module_name(file, root), file.name == "__init__.py")
        for file in files
    }


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def floor(module: str) -> int | None:
    """The floor a module lies on; None for the package itself, which only names its version and what it offers."""
    return next((i for i, names in enumerate(FLOORS) if any(within(module, name) for name in names)), None)


def edges(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Imports of the package's own modules by one another; the root, read for its version, is no part of a cycle."""
    own = set(imports) - {"rlopt"}
    return {module: names & own - {module} for module, names in imports.items()}


def too_high(imports: dict[str, set[str]]) -> list[str]:
    found = []
    for module, names in imports.items():
        here = floor(module)
        for name in sorted(names):
            there = floor(name)
            if here is not None and there is not None and there > here:
                found.append(f"{module} imports {name}")
    return found


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules along one import cycle, or none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in sorted(graph[module]):
            if found := visit(name, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := visit(module, []))), [])


def users(imports: dict[str, set[str]], libraries: tuple[str, ...]) -> set[str]:
    return {m for m, names in imports.items() if any(within(name, library) for name in names for library in libraries)}


def test_there_is_something_to_check():
    modules = read(FILES)
    assert {"rlopt", "rlopt.core.update", "rlopt.core.heads", "rlopt.core.steps.optimizer"} <= set(modules)
    assert "rlopt.core.solvers.cg" in {m for m, names in modules.items() if "rlopt.core.parts" in names}


def test_every_file_lies_on_a_floor():
    assert [m for m in read(FILES) if m != "rlopt" and floor(m) is None] == []


def test_no_file_imports_from_a_higher_floor():
    assert too_high(read(FILES)) == []


def test_no_import_cycle():
    assert cycle(edges(read(FILES))) == []


def test_core_knows_nothing_of_environments_rollouts_or_configs():
    core = {m: names for m, names in read(FILES).items() if within(m, "rlopt.core")}
    inside = {name for names in core.values() for name in names if within(name, "rlopt")}
    assert {name for name in inside if not within(name, "rlopt.core") and not within(name, "rlopt.errors")} == set()
    assert users(core, ("hydra", "omegaconf", "gymnasium", "yaml")) == set()


def test_core_needs_only_torch_and_numpy():
    core = {m: names for m, names in read(FILES).items() if within(m, "rlopt.core")}
    libraries = {name.split(".")[0] for names in core.values() for name in names} - set(sys.stdlib_module_names)
    assert libraries <= {"rlopt", "torch", "numpy"}


def test_only_the_command_line_and_build_know_hydra():
    assert users(read(FILES), ("hydra", "omegaconf")) <= set(KNOW_HYDRA)


def test_one_trpo_update_is_read_in_four_short_files():
    assert sum(len((ROOT / "rlopt/core" / name).read_text().splitlines()) for name in ONE_UPDATE) <= 450


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_is_longer_than_300_lines(file):
    assert len(file.read_text().splitlines()) <= 300


@pytest.fixture
def planted(tmp_path):
    """A package whose core imports run, hydra and, by way of itself, a cycle."""
    for name, text in {
        "__init__.py": "",
        "core/__init__.py": "",
        "core/a.py": "from rlopt.core import b\nimport torch",
        "core/b.py": "def late():\n    from ..run.loop import train\n    from . import c",
        "core/c.py": "from rlopt.core.a import x\nimport hydra.utils",
        "run/loop.py": "import rlopt.core.a",
    }.items():
        file = tmp_path / "rlopt" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return read(sorted(tmp_path.rglob("*.py")), tmp_path)


def test_planted_violations_are_found(planted):
    assert set(too_high(planted)) == {
        "rlopt.core.b imports rlopt.run.loop",
        "rlopt.core.b imports rlopt.run.loop.train",
    }
    assert cycle(edges(planted)) == ["rlopt.core.a", "rlopt.core.b", "rlopt.core.c", "rlopt.core.a"]
    assert users(planted, ("hydra", "omegaconf")) == {"rlopt.core.c"}
    planted["rlopt.core.c"].clear()
    planted["rlopt.core.b"].discard("rlopt.run.loop")
    assert cycle(edges(planted)) == []
