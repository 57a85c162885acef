"""scalars.csv: columns that come and go, rows that are dropped when it is taken up again, and a full disk."""

import math
import os
from pathlib import Path

import pytest

from rlopt.loggers.csv import CSVWriter
from rlopt.loggers.logger import Logger
from rlopt.loggers.tensorboard import TensorBoardWriter
from tests.support.traces import read, rows

ROWS = [
    ({"a": 0.1, "b": math.nan}, 10),
    ({"b": 1 / 3, "c": -math.inf}, 20),  # one is lacking, one is new
    ({}, 30),
    ({"d": 1e-300, "a": 2.0}, 40),
]


def test_the_table_takes_names_that_come_and_go(tmp_path):
    table = CSVWriter(tmp_path)
    for i, (values, step) in enumerate(ROWS):
        table.append(values, step)
        assert len(rows(tmp_path)) == i + 1  # there at once, for whoever reads during a run
    table.close()
    read_back = [
        ({k: float(v) for k, v in row.items() if v and k != "step"}, int(row["step"])) for row in rows(tmp_path)
    ]
    assert str(read_back) == str([({k: v[k] for k in "abcd" if k in v}, step) for v, step in ROWS])
    assert [p.name for p in tmp_path.iterdir()] == ["scalars.csv"]


def test_a_resumed_table_drops_later_rows_and_cut_rows(tmp_path):
    for after, left in ((None, []), (-1, []), (20, [10, 20]), (25, [10, 20])):
        table = CSVWriter(tmp_path)
        for values, step in ROWS:
            table.append(values, step)
        table.close()
        again = CSVWriter(tmp_path, after)
        again.append({"e": 5.0}, 50)
        again.close()
        assert [int(row["step"]) for row in rows(tmp_path)] == [*left, 50]
    with (tmp_path / "scalars.csv").open("a") as file:
        file.write("6")
    CSVWriter(tmp_path, 100).close()
    assert [int(row["step"]) for row in rows(tmp_path)] == [10, 20, 50]


def test_a_full_disk_is_told_once_and_its_rows_are_written_later(tmp_path, monkeypatch, capsys):
    written = Logger(tmp_path, {}, "", tensorboard=False, csv=True)
    written.scalars({"a": 1.0}, 1)
    monkeypatch.setattr(CSVWriter, "_rewrite", lambda *_: (_ for _ in ()).throw(OSError("no space left on device")))
    written.scalars({"b": 1.0}, 2)
    written.scalars({"b": 1.0}, 3)
    monkeypatch.undo()
    written.scalars({"b": 1.0}, 4)
    written.close()
    assert capsys.readouterr().err.count("no space left") == 1
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]


def test_a_failing_event_file_does_not_stop_the_table(tmp_path, monkeypatch, capsys):
    written = Logger(tmp_path, {}, "", tensorboard=True, csv=True)
    with monkeypatch.context() as patch:
        patch.setattr(TensorBoardWriter, "_write", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        for step in (1, 2):
            written.scalars({"a": float(step)}, step)
            written.flush()
        assert [row["step"] for row in rows(tmp_path)] == ["1", "2"]
    written.scalars({"a": 3.0}, 3)
    written.close()
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert [e.step for e in read(tmp_path).Scalars("a")] == [1, 2, 3]
    assert capsys.readouterr().err.count("Input/output error") == 1


def test_rows_that_are_never_written_are_counted_at_the_end(tmp_path, monkeypatch, capsys):
    written = Logger(tmp_path, {}, "", tensorboard=False, csv=True)
    monkeypatch.setattr(CSVWriter, "append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for step in (1, 2, 3):
        written.scalars({"a": 1.0}, step)
    written.flush()
    written.close()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and f"3 rows of {tmp_path / 'scalars.csv'} are lost" in said[1]


@pytest.mark.parametrize("size", ["a huge file", "a huge step", "a line without end"])
def test_a_table_of_another_size_is_resumed_at_once(tmp_path, size):
    path = tmp_path / "scalars.csv"
    if size == "a huge file":
        path.write_text(WHOLE)
        os.truncate(path, 2**34)
    else:
        path.write_text(WHOLE + ("9" * 400 + ",1\n1e308,2\n" if size == "a huge step" else "30," + "1" * 5_000_000))
    table = CSVWriter(tmp_path, 100)
    table.append({"a": 1.0}, 40)
    table.close()
    assert [row["step"] for row in rows(tmp_path)] == ([] if size == "a huge file" else ["10", "20"]) + ["40"]


WHOLE = "step,a\n10,0.5\n20,0.25\n"
DAMAGED = {
    "bytes that are no text": (WHOLE.encode() + b"\xff\xfe,3\n30,1.5\n", [10, 20, 30]),
    "too many fields": (WHOLE.encode() + b"25,1,2,3\n30,1.5\n", [10, 20, 30]),
    "a field that has no end": (WHOLE.encode() + b"25," + b"1" * 200_000 + b"\n30,1.5\n", [10, 20, 30]),
    "zeros at the end": (WHOLE.encode() + bytes(100), [10, 20]),
    "digits that are none": (WHOLE.encode() + "²,1\n30,1.5\n".encode(), [10, 20, 30]),
    "another's": (b"time,a\n10,0.5\n", []),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_table_is_resumed_with_its_whole_rows(tmp_path, damage, capsys):
    content, left = DAMAGED[damage]
    (tmp_path / "scalars.csv").write_bytes(content)
    table = CSVWriter(tmp_path, 100)
    table.append({"a": 2.0, "b": 3.0}, 40)
    table.close()
    assert [int(row["step"]) for row in rows(tmp_path)] == [*left, 40]
    aside = tmp_path / "scalars.csv.aside"
    assert aside.exists() == (not left) == ("is called scalars.csv.aside now" in capsys.readouterr().err)
    assert left or aside.read_bytes() == content


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_put_aside(tmp_path, make, capsys):
    (tmp_path / "scalars.csv.aside").touch()
    make(tmp_path / "scalars.csv")
    CSVWriter(tmp_path, 100).close()
    assert "scalars.csv: it is no regular file; it is called scalars.csv.aside-2 now" in capsys.readouterr().err
    assert (tmp_path / "scalars.csv").read_text() == "step\n"


def test_a_table_that_was_cut_during_the_run_goes_on(tmp_path):
    table = CSVWriter(tmp_path)
    table.append({"a": 1.0}, 10)
    (tmp_path / "scalars.csv").write_text("step,a\n10")
    table.append({"b": 1.0}, 20)
    table.close()
    assert [row["step"] for row in rows(tmp_path)] == ["20"]


def test_an_interrupt_during_a_rewrite_leaves_the_table_open(tmp_path, monkeypatch):
    """A signal may come at any moment; what is saved after it needs the table."""
    table = CSVWriter(tmp_path)
    table.append({"a": 1.0}, 10)
    replace = os.replace

    def interrupted(*names: object) -> None:
        replace(*names)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        table.append({"b": 1.0}, 20)
    table.flush()
    table.close()
