"""The folder of a run: one process trains it at a time, and no link leads out of it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlopt.checkpoint import format as checkpoint
from rlopt.cli import main as cli
from rlopt.training import nan_report
from tests.support.resuming import CASES, SMALL, cut, resume

pytestmark = pytest.mark.usefixtures("probe_environments")


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Another process trains this run: a lock of another opened file is another's."""
    descriptor = os.open(run_dir, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, runs, capsys):
    part, empty = tmp_path / "part", tmp_path / "empty"
    cut(runs("cartpole trpo"), part, 2)
    empty.mkdir()
    for run_dir, arguments in ((part, ["resume", str(part)]), (empty, ["train", *SMALL, f"run_dir={empty}"])):
        with locked(run_dir):
            assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert said.endswith(f"rlopt: {run_dir} is being trained by another process; it is left to that one\n")
    assert list(empty.iterdir()) == []


def test_a_run_holds_its_lock_to_its_end(tmp_path, monkeypatch, capsys):
    save, said = checkpoint.save, []

    def resumed_meanwhile(*arguments: Any) -> Path:
        said.append(resume(tmp_path / "run"))
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", resumed_meanwhile)
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"]) == 0
    assert said == [2] * 5
    assert resume(tmp_path / "run") == 0


def test_a_run_goes_on_where_there_are_no_locks(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")  # of NFS, for a folder

    monkeypatch.setattr(fcntl, "flock", none)
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"]) == 0


def test_a_linked_folder_of_checkpoints_is_refused(tmp_path, runs, capsys):
    part = tmp_path / "part"
    cut(runs("cartpole trpo"), part, 2)
    (part / "checkpoints").rename(tmp_path / "elsewhere")
    (part / "checkpoints").symlink_to(tmp_path / "elsewhere")
    capsys.readouterr()
    for command in ("resume", "eval"):
        assert cli.main([command, str(part)]) == 2
        assert capsys.readouterr().err.startswith(f"rlopt: {part / 'checkpoints'} is a link; put the folder")
    with pytest.raises(OSError, match="it is a link"):
        checkpoint.save(part / "checkpoints", 900, {}, keep=1)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_what_a_resumed_run_writes_follows_no_link(tmp_path, runs):
    """In a stranger's folder one may lead anywhere."""
    part, treasure = tmp_path / "part", tmp_path / "treasure"
    cut(runs("cartpole trpo"), part, 4)
    treasure.write_text("mine")
    names = ["summary.json", "nan_report.json", "error.txt", "scalars.csv"]
    for name in names:
        (part / name).unlink(missing_ok=True)
        (part / name).symlink_to(treasure)
    assert resume(part) == 0
    nan_report.write(part, {}, {}, {}, 0)
    assert treasure.read_text() == "mine"
    assert [name for name in names if (part / name).is_symlink()] == ["error.txt"]
