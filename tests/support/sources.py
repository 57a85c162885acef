"""The text of rlopt's modules: what each imports, where an import leads in a circle, and how long its functions are."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def files(root: Path = ROOT) -> list[Path]:
    return sorted((root / "rlopt").rglob("*.py"))


def module_name(file: Path, root: Path = ROOT) -> str:
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str, module: str = "", is_package: bool = False) -> set[str]:
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


def read(root: Path = ROOT) -> dict[str, set[str]]:
    """module -> everything it imports."""
    return {
        module_name(file, root): imported(file.read_text(), module_name(file, root), file.name == "__init__.py")
        for file in files(root)
    }


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def edges(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """module -> the modules of rlopt that it imports; the root, read for its version, is not one of them."""
    own = set(imports) - {"rlopt"}
    return {module: names & own - {module} for module, names in imports.items()}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Nodes along one cycle, or none."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for name in sorted(graph.get(node, ())):
            if found := visit(name, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Each function's dotted name within its file, and its number of lines."""

    def walk(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            inside = (*path, child.name) if named else path
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield ".".join(inside), (child.end_lineno or child.lineno) - child.lineno + 1
            yield from walk(child, inside)

    return walk(ast.parse(file.read_text()), ())
