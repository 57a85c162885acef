"""When a run is saved, which checkpoints stay, and what happens where the disk is full."""

import math
from pathlib import Path
from typing import Any

import pytest

from rlopt import cli
from rlopt.run import checkpoint
from tests.failing import breaking
from tests.probes import make_trainer
from tests.run.resuming import CASES, SMALL
from tests.run.training import start
from tests.traces import scalars

pytestmark = pytest.mark.usefixtures("probe_environments")


def test_checkpoints_come_by_updates_and_at_the_end(tmp_path):
    start(tmp_path, "checkpoint.every_updates=2", "checkpoint.every_seconds=null", "checkpoint.keep=9",
          "total_steps=400").run()  # fmt: skip
    kept = [int(p.name.removeprefix("step-")) for p in checkpoint.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == [160, 320, 400]


def test_checkpoints_come_by_the_clock(tmp_path):
    start(tmp_path, "checkpoint.every_seconds=0", "checkpoint.keep=9").run()
    kept = [int(p.name.removeprefix("step-")) for p in checkpoint.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == [80, 160, 240]


def full(monkeypatch, calls: range) -> None:
    """The disk is full at these saves."""
    save, count = checkpoint.save, iter(range(10**9))

    def failing(*arguments: Any) -> Path:
        if next(count) in calls:
            raise OSError(28, "No space left on device")
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", failing)


def test_a_full_disk_is_told_of_once_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(1, 3))
    make_trainer(*SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}").run()
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 1
    assert "the last good one is of step 40. Training goes on and tries again" in said
    names = [checkpoint.step_of(place) for place in checkpoint.list_checkpoints(tmp_path / "run/checkpoints")]
    assert names == [40, 160, 200]


def test_a_run_whose_end_cannot_be_saved_ends_with_an_error(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(3, 99))
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "the last good one is of step 120. What was trained since then is lost" in said
    assert checkpoint.load_newest(tmp_path / "run")[0] == 120


def test_a_run_that_breaks_on_a_full_disk_says_what_is_saved(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(1, 99))
    breaks = [*breaking("raises", which=2, at=13, count=3), "batch_size=15"]
    assert cli.main(["train", *SMALL, *breaks, f"run_dir={tmp_path / 'run'}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "after step 30; the last checkpoint is of step 15; the traceback is in" in last


def test_the_best_stays_by_the_evaluation_that_was_asked_for(tmp_path, monkeypatch):
    from rlopt.run import judge
    from rlopt.run.evaluate import Evaluation

    returns = iter([math.nan, 9.0, 3.0, math.nan, 5.0])
    monkeypatch.setattr(judge, "evaluate", lambda *a: Evaluation([next(returns, 0.0)], [1]))
    run = make_trainer(*SMALL, *CASES["cartpole trpo"], "checkpoint.every_updates=null", "checkpoint.keep=1",
                       "evaluation.every_updates=1", f"run_dir={tmp_path}")  # fmt: skip
    run.run()
    folder = tmp_path / "checkpoints"
    assert [checkpoint.step_of(place) for place in checkpoint.list_checkpoints(folder)] == [80, 200]
    assert checkpoint.step_of(checkpoint.best(folder)) == 80
    assert scalars(tmp_path)["evaluation/return"] == [(40, "nan"), (80, 9), (120, 3), (160, "nan"), (200, 5)]
