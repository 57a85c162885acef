"""Scalars as a table: scalars.csv, a row for each update, a column for each name, the first of them ``step``.

A periodic evaluation has a row of its own, at its update's step. A name that comes up later gets its column then: the
file is written anew and put in the old one's place. A cell is empty where a row has no such scalar. Numbers are written
so that they come back to the bit.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TextIO

from rlopt.checkpoint.format import synchronise

NAME = "scalars.csv"


class CSVWriter:
    """Appends rows to scalars.csv of one run directory, each handed to the system before the next.

    Rows that are there are kept, those beyond step ``after`` excepted; with None the table begins anew.
    """

    def __init__(self, run_dir: Path, after: int | None = None):
        self._path = run_dir / NAME
        self._file: TextIO | None = None
        rows = [] if after is None else [row for row in self._rows() if int(row["step"]) <= after]
        self._write_anew(list(rows[0]) if rows else ["step"], rows)

    def append(self, values: Mapping[str, float], step: int) -> None:
        row = {"step": str(step), **{name: repr(float(value)) for name, value in values.items()}}
        if new := [name for name in row if name not in self._columns]:
            self._write_anew([*self._columns, *new], self._rows())
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
        try:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())
            os.replace(unfinished, self._path)
        except BaseException:
            file.close()
            raise
        old, self._columns, self._file, self._writer = self._file, columns, file, writer
        if old:
            old.close()
        synchronise(self._path.parent)

    def _rows(self) -> list[dict[str, str]]:
        """Those that can be read. What is no table of ours is put aside, so that it is neither lost nor in the way."""
        try:
            return read(self._path)
        except ValueError as error:
            aside, count = self._path.with_name(f"{NAME}.aside"), 1
            while os.path.lexists(aside):
                aside, count = self._path.with_name(f"{NAME}.aside-{count + 1}"), count + 1
            self._path.rename(aside)
            print(f"rlopt: {self._path} {error}; it is called {aside.name} now", file=sys.stderr)
            return []


def read(path: Path) -> list[dict[str, str]]:
    """The rows that are whole; others are left out. Raises ValueError where ``path`` is no table."""
    if not os.path.lexists(path):
        return []
    if not path.is_file():
        raise ValueError("is no file")
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, rows = _cells(file.readline()), [cells for line in file if (cells := _cells(line))]
    if header is None or header[0] != "step":
        raise ValueError("does not begin as a table of scalars does")
    return [dict(zip(header, row, strict=True)) for row in rows if _whole(row, len(header))]


def _cells(line: str) -> list[str] | None:
    """Of one line; None where it is not to be read."""
    try:
        return next(csv.reader([line]), None) if line.endswith("\n") else None
    except csv.Error:
        return None


def _whole(row: list[str], count: int) -> bool:
    """Whether a row was written to its end; it begins with the step."""
    return len(row) == count and row[0].isascii() and row[0].isdigit()
