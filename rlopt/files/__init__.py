"""Files that survive a crash, JSON of finite numbers only, and nested options under dotted names."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path``. A crash at any moment leaves the whole old content or the whole new one.

    A link at ``path`` is replaced, not followed. Raises OSError; the old content is then still there.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk. Windows opens no folder, and has no such wait."""
    if not hasattr(os, "O_DIRECTORY") and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if hasattr(os, "O_DIRECTORY") else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shown(path: Path) -> Path:
    """The path as a user types it in the working directory: relative where it lies below."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):  # it lies elsewhere, or the working directory is gone
        return path


def finite(tree: Any) -> Any:
    """A copy of nested dictionaries and lists in which NaN and infinities are None."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def finite_json(tree: Any, indent: int | None = None) -> str:
    """JSON text in which NaN and infinities, which JSON does not have, are null."""
    return json.dumps(finite(tree), indent=indent, allow_nan=False)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one: ``{"env": {"id": 1}}`` becomes ``{"env.id": 1}``. Empty mappings leave nothing."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _write(path: Path, content: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
