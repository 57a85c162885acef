"""Results as csv, one line a row under a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Rows = Iterable[Sequence[Any]]


def read(path: Path) -> list[dict[str, str]]:
    """Rows by the header's names."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, header: Sequence[str], rows: Rows, digits: int | None = None) -> None:
    """``digits``: significant ones of floats; None leaves them as they are."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([f"{v:.{digits}g}" if digits and isinstance(v, float) else v for v in row] for row in rows)


def append(path: Path, header: Sequence[str], rows: Rows) -> None:
    """Under what is there, or under a header in a new file."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows] if new else rows)
