"""Scalars as a table: scalars.csv, with a row for each update and a column for each name, ``step`` first.

A periodic evaluation has a row of its own, at its update's step. When a new name appears, the file is written anew with
one more column and replaced. A cell is empty where its row has no such scalar. Numbers come back to the bit.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlopt.files import replace_file
from rlopt.files.appending import AppendedFile
from rlopt.files.reading import exists, open_regular
from rlopt.loggers import console

NAME = "scalars.csv"
_LARGEST = 2**29  # bytes of a table
_LONGEST_LINE = 2**20  # bytes
_LONGEST_CELL = 200
_MOST_DIGITS = 15  # of a step, so that float64 holds it exactly


class CSVWriter:
    """Appends rows to scalars.csv in a run's folder. Each row reaches the system before the next is written.

    With ``after`` the rows of an earlier writer up to this step are kept; with None the table starts empty.
    """

    def __init__(self, run_dir: Path, after: int | None = None):
        self._path = run_dir / NAME
        self._file: AppendedFile | None = None
        columns, lines = ([], []) if after is None else self._read_lines()
        lines = [line for line in lines if int(line.partition(",")[0]) <= (after or 0)]
        self._rewrite(columns if lines else ["step"], lines)

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Write one row. Raises OSError where that fails; the table is then as it was before."""
        row = {"step": str(step), **{name: repr(float(value)) for name, value in values.items()}}
        if new := [name for name in row if name not in self._columns]:
            lines = [line + "," * len(new) for line in self._read_lines()[1]]
            self._rewrite([*self._columns, *new], lines)
        assert self._file
        self._file.append(_line([row.get(name, "") for name in self._columns]).encode() + b"\n")

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        if self._file:
            self._file.synchronise()

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _rewrite(self, columns: Sequence[str], lines: Sequence[str]) -> None:
        """Replace the file by one with these columns and rows, and open it for more."""
        replace_file(self._path, "".join(f"{line}\n" for line in (_line(columns), *lines)))
        old, self._columns, self._file = self._file, list(columns), AppendedFile(self._path)
        if old:
            old.close()

    def _read_lines(self) -> tuple[list[str], list[str]]:
        """The columns, and the rows as they stand. A file that is no such table is renamed, and so not lost."""
        try:
            if not exists(self._path):
                return [], []
            with _opened(self._path) as (columns, lines):
                return columns, list(lines)
        except ValueError as error:
            aside, count = self._path.with_name(f"{NAME}.aside"), 1
            while os.path.lexists(aside):
                aside, count = self._path.with_name(f"{NAME}.aside-{count + 1}"), count + 1
            self._path.rename(aside)
            console.info(f"rlopt: {self._path}: {error}; it is called {aside.name} now")
            return [], []


def read(path: Path, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Points (step, value) of each of ``names``, from the rows that were written to their end.

    Raises ValueError if ``path`` holds no such table, or a cell no number; OSError if it cannot be read.
    """
    with _opened(path) as (columns, lines):
        places = {name: columns.index(name) for name in names if name in columns}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in places}
        for line in lines:
            cells = _split(line)
            for name, place in places.items():
                if cells[place]:
                    found[name].append((float(cells[0]), float(cells[place])))
        return found


def names_within(path: Path, group: str = "") -> list[str]:
    """The names of a table's scalars, or of those that begin with ``group`` and a slash. Raises as `read` does."""
    start = f"{group}/" if group else ""
    with _opened(path) as (columns, _):
        return [name for name in columns[1:] if name.startswith(start) and len(name) <= _LONGEST_CELL]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Iterator[str]]]:
    """The columns of a table, and its whole rows without their line breaks, one by one."""
    with open_regular(path, _LARGEST) as raw, io.TextIOWrapper(raw, "utf-8", errors="replace", newline="\n") as file:
        header = file.readline(_LONGEST_LINE)
        columns = _split(header[:-1]) if header.endswith("\n") else []
        if columns[:1] != ["step"]:
            raise ValueError("it does not begin as a table of scalars does")
        yield columns, _whole_rows(file, len(columns))


def _whole_rows(file: io.TextIOWrapper, count: int) -> Iterator[str]:
    """The rows that have all ``count`` cells and begin with a step."""
    while line := file.readline(_LONGEST_LINE):
        step = line.partition(",")[0].rstrip("\n")
        is_step = step.isascii() and step.isdigit() and len(step) <= _MOST_DIGITS
        cells = _split(line[:-1]) if is_step and line.endswith("\n") else []
        if len(cells) == count and max(map(len, cells)) <= _LONGEST_CELL:
            yield line[:-1]


def _line(cells: Sequence[str]) -> str:
    """One line of the table; a name may hold a comma."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _split(line: str) -> list[str]:
    """The cells of one line; none if it is no CSV."""
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []
