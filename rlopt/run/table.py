"""Scalars as a table: scalars.csv, a row for each update, a column for each name, the first of them ``step``.

A periodic evaluation has a row of its own, at its update's step. A name that comes up later gets its column then: the
file is written anew and put in the old one's place. A cell is empty where a row has no such scalar. Numbers are written
so that they come back to the bit.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

NAME = "scalars.csv"


class Table:
    """Appends rows to scalars.csv of one run directory, each handed to the system before the next.

    Rows that are there are kept, those beyond step ``after`` excepted; with None the table begins anew.
    """

    def __init__(self, run_dir: Path, after: int | None = None):
        self._path = run_dir / NAME
        rows: list[dict[str, str]] = []
        if after is not None and self._path.exists():
            with self._path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if _whole(row) and int(row["step"]) <= after]
        self._file: TextIO | None = None
        self._write_anew(list(rows[0]) if rows else ["step"], rows)

    def append(self, values: Mapping[str, float], step: int) -> None:
        row = {"step": str(step), **{name: repr(float(value)) for name, value in values.items()}}
        if new := [name for name in row if name not in self._columns]:
            with self._path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            self._write_anew([*self._columns, *new], rows)
        assert self._file
        self._writer.writerow(row)
        self._file.flush()

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        if self._file:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _write_anew(self, columns: list[str], rows: Iterable[Mapping[str, str]]) -> None:
        """The whole file, and leave it open for more."""
        unfinished = self._path.with_name(f".{NAME}.{os.getpid()}")
        unfinished.unlink(missing_ok=True)
        file = unfinished.open("x", newline="")
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.replace(unfinished, self._path)
        if self._file:
            self._file.close()
        self._columns, self._file, self._writer = columns, file, writer


def _whole(row: Mapping[str, str | None]) -> bool:
    """Whether a row was written to its end."""
    return None not in row.values() and (row["step"] or "").isdigit()
