"""Scalars as a table: scalars.csv, with a row for each update and a column for each name, ``step`` first.

A periodic evaluation has a row of its own, at its update's step. When a new name appears, the file is written anew with
one more column and replaced. A cell is empty where its row has no such scalar. Numbers come back to the bit.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from rlopt.files import replace_file
from rlopt.loggers import console

NAME = "scalars.csv"


class CSVWriter:
    """Appends rows to scalars.csv in a run's folder. Each row reaches the system before the next is written.

    With ``after`` the rows of an earlier writer up to this step are kept; with None the table starts empty.
    """

    def __init__(self, run_dir: Path, after: int | None = None):
        self._path = run_dir / NAME
        self._file: TextIO | None = None
        rows = [] if after is None else [row for row in self._read_rows() if int(row["step"]) <= after]
        self._rewrite(list(rows[0]) if rows else ["step"], rows)

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Write one row."""
        row = {"step": str(step), **{name: repr(float(value)) for name, value in values.items()}}
        if new := [name for name in row if name not in self._columns]:
            self._rewrite([*self._columns, *new], self._read_rows())
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

    def _rewrite(self, columns: list[str], rows: Iterable[Mapping[str, str]]) -> None:
        """Replace the file by one with these columns and rows, and open it for more."""
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        replace_file(self._path, text.getvalue())
        file = self._path.open("a", newline="", encoding="utf-8")
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        old, self._columns, self._file, self._writer = self._file, columns, file, writer
        if old:
            old.close()

    def _read_rows(self) -> list[dict[str, str]]:
        """The rows that can be read. A file that is no such table is renamed, and so not lost."""
        try:
            return read(self._path)
        except ValueError as error:
            aside, count = self._path.with_name(f"{NAME}.aside"), 1
            while os.path.lexists(aside):
                aside, count = self._path.with_name(f"{NAME}.aside-{count + 1}"), count + 1
            self._path.rename(aside)
            console.info(f"rlopt: {self._path} {error}; it is called {aside.name} now")
            return []


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a table that were written to their end. Raises ValueError if ``path`` holds no such table."""
    if not os.path.lexists(path):
        return []
    if not path.is_file():
        raise ValueError("is no file")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, rows = _split(file.readline()), [cells for line in file if (cells := _split(line))]
    if header is None or header[0] != "step":
        raise ValueError("does not begin as a table of scalars does")
    return [dict(zip(header, row, strict=True)) for row in rows if _is_whole(row, len(header))]


def _split(line: str) -> list[str] | None:
    """The cells of one line; None if it is cut short or is no CSV."""
    try:
        return next(csv.reader([line]), None) if line.endswith("\n") else None
    except csv.Error:
        return None


def _is_whole(row: list[str], count: int) -> bool:
    """True if a row has all its cells and begins with a step."""
    return len(row) == count and row[0].isascii() and row[0].isdigit()
