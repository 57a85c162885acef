"""Results as csv and JSON. A file of more than 50 kB is kept compressed, as NAME.csv.gz in place of NAME.csv.

Callers name the plain file; reading and writing find out which of the two it is. The same content gives the same bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Rows = Iterable[Sequence[Any]]

LARGE = 50_000  # bytes from which a file is compressed


def exists(path: Path) -> bool:
    """True if ``path`` is there, plain or compressed."""
    return path.exists() or _compressed(path).exists()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Lines of a csv file as dictionaries by the names in its header."""
    return list(csv.DictReader(io.StringIO(_read(path))))


def write_rows(path: Path, header: Sequence[str], rows: Rows, digits: int | None = None) -> None:
    """Write a csv file; ``digits`` is the number of significant digits of floats, None leaves them as they are."""
    shown = ([f"{v:.{digits}g}" if digits and isinstance(v, float) else v for v in row] for row in rows)
    _write(path, _lines([header, *shown]))


def append_rows(path: Path, header: Sequence[str], rows: Rows) -> None:
    """Add lines to a csv file, which begins with ``header`` if it is new."""
    _write(path, _read(path) + _lines(rows) if exists(path) else _lines([header, *rows]))


def read_json(path: Path) -> Any:
    return json.loads(_read(path))


def write_json(path: Path, value: Any) -> None:
    _write(path, json.dumps(value, indent=1) + "\n")


def _lines(rows: Rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _compressed(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


def _read(path: Path) -> str:
    if path.exists():
        return path.read_text()
    return gzip.decompress(_compressed(path).read_bytes()).decode()


def _write(path: Path, text: str) -> None:
    """Replace the file in one step, so that a run that is stopped leaves the old one or the new one."""
    content = text.encode()
    kept, other = path, _compressed(path)
    if len(content) > LARGE:
        kept, other, content = other, path, gzip.compress(content, mtime=0)
    beside = kept.with_name(kept.name + ".new")
    beside.write_bytes(content)
    beside.replace(kept)
    other.unlink(missing_ok=True)
