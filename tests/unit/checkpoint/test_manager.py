"""When a run is saved, which checkpoints stay, and what happens where the disk is full."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import rlopt
from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.loggers.csv import CSVWriter
from tests.support.failing import breaking
from tests.support.probes import make_trainer
from tests.support.resuming import CASES, SMALL, resume
from tests.support.traces import scalars
from tests.support.training import start

pytestmark = pytest.mark.usefixtures("probe_environments")


def test_checkpoints_come_by_updates_and_at_the_end(tmp_path):
    start(tmp_path, "checkpoint.every_updates=2", "checkpoint.every_seconds=null", "checkpoint.keep=9",
          "total_steps=400").run()  # fmt: skip
    kept = [checkpoint.step_of(p) for p in checkpoint.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == [160, 320, 400]


def test_checkpoints_come_by_the_clock(tmp_path):
    start(tmp_path, "checkpoint.every_seconds=0", "checkpoint.keep=9").run()
    kept = [checkpoint.step_of(p) for p in checkpoint.list_checkpoints(tmp_path / "checkpoints")]
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
    from rlopt.evaluation.episodes import Evaluation
    from rlopt.training import evaluator as judge

    returns = iter([math.nan, 9.0, 3.0, math.nan, 5.0])
    monkeypatch.setattr(judge, "evaluate", lambda *a: Evaluation([next(returns, 0.0)], [1]))
    run = make_trainer(*SMALL, *CASES["cartpole trpo"], "checkpoint.every_updates=null", "checkpoint.keep=1",
                       "evaluation.every_updates=1", f"run_dir={tmp_path}")  # fmt: skip
    run.run()
    folder = tmp_path / "checkpoints"
    assert [checkpoint.step_of(place) for place in checkpoint.list_checkpoints(folder)] == [80, 200]
    assert checkpoint.step_of(checkpoint.best(folder)) == 80
    assert scalars(tmp_path)["evaluation/return"] == [(40, "nan"), (80, 9), (120, 3), (160, "nan"), (200, 5)]


def test_the_best_can_be_evaluated_and_loaded(tmp_path, runs, capsys):
    run_dir = runs("cartpole trpo", "evaluation.every_updates=2")
    best = checkpoint.best(run_dir / "checkpoints")
    assert cli.main(["eval", str(run_dir), "--best", "--episodes=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == checkpoint.step_of(best) in (80, 160)
    theta = rlopt.load(run_dir, best=True).frozen.theta
    assert torch.equal(theta, checkpoint.load(best)["agent"]["actor"]["theta"])
    without = runs("cartpole trpo", "evaluation.episodes=0", "total_steps=40")
    assert cli.main(["eval", str(without), "--best"]) == 2
    assert "leave out --best to take the newest" in capsys.readouterr().err


def test_what_goes_wrong_after_training_leaves_the_summary(tmp_path, monkeypatch, capsys):
    from rlopt.training import evaluator as judge

    def broken(*_: object) -> None:
        raise RuntimeError("no screen")

    run = make_trainer(*SMALL, *CASES["cartpole trpo"], "record.video_steps=5", f"run_dir={tmp_path}")
    monkeypatch.setattr(judge, "animation", broken)
    assert run.run() == json.loads((tmp_path / "summary.json").read_text())
    assert "there is no video: RuntimeError: no screen" in capsys.readouterr().err


def test_a_summary_is_json_whatever_the_rewards_were(tmp_path):
    bad = ["env.id=probe/NotFinite-v0", "env.num_envs=4", "batch_size=20", "total_steps=60", "env.kwargs.what=reward",
           "env.kwargs.value=nan", "env.kwargs.since=11", "max_bad_updates=null"]  # fmt: skip
    make_trainer(*SMALL, *bad, f"run_dir={tmp_path}").run()
    found = json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)
    assert found["return_mean"] is None and found["return_std"] is None and found["steps"] == 60


def test_a_resume_that_fails_at_its_start_leaves_the_summary(tmp_path, runs, monkeypatch, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(runs("cartpole trpo"), run_dir)
    before = (run_dir / "summary.json").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(CSVWriter, "_rewrite", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        assert resume(run_dir, "total_steps=400") == 2
    assert "cannot be written: [Errno 28] No space left on device" in capsys.readouterr().err
    assert (run_dir / "summary.json").read_text() == before
    assert resume(run_dir, "total_steps=400") == 0
    assert json.loads((run_dir / "summary.json").read_text())["steps"] == 400


def test_a_finished_run_without_checkpoints_is_not_begun_again(tmp_path, runs, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(runs("cartpole trpo"), run_dir)
    shutil.rmtree(run_dir / "checkpoints")
    curves = (run_dir / "scalars.csv").read_text()
    assert resume(run_dir) == 2
    assert "was finished, but its checkpoints are gone" in capsys.readouterr().err
    assert (run_dir / "scalars.csv").read_text() == curves and (run_dir / "summary.json").exists()
