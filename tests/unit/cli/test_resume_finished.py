"""A finished run is told of again; one whose summary is not whole has something left to do."""

import json
import shutil

import pytest

from rlopt.cli.process import saved_result
from tests.support.resuming import resume

NULLS = json.dumps(dict.fromkeys(("algo", "env", "seed", "steps", "steps_per_second")))
BROKEN = ["", "{", "{}", "[]", "null", "3", NULLS]


@pytest.mark.parametrize("content", BROKEN)
def test_a_summary_that_is_not_whole_is_none(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    assert saved_result(tmp_path) is None


@pytest.mark.parametrize("content", BROKEN[1:3])
def test_a_finished_run_with_a_broken_summary_is_evaluated_again(tmp_path, runs, capsys, content):
    whole, run_dir = runs("cartpole trpo"), tmp_path / "run"
    shutil.copytree(whole, run_dir)
    (run_dir / "summary.json").write_text(content)
    assert resume(run_dir) == 0
    mine, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (run_dir, whole))
    assert {k for k in theirs if mine[k] != theirs[k]} <= {"steps_per_second", "wall_seconds"}
    assert resume(run_dir) == 0
    assert f"{run_dir} is finished: trpo on CartPole-v1, seed 0: evaluation return" in capsys.readouterr().out


@pytest.mark.parametrize(
    "typed", ["evaluation.episodes=-1", "checkpoint.keep=abc", "workers=99", "checkpoint.keep=1 checkpoint.keep=2"]
)
def test_a_bad_value_is_refused_for_a_finished_run_as_well(tmp_path, runs, capsys, typed):
    shutil.copytree(runs("cartpole trpo"), tmp_path / "run")
    assert resume(tmp_path / "run", *typed.split()) == 2
    assert typed.split("=")[0] in capsys.readouterr().err


def test_returns_that_are_not_finite_end_a_run_like_others(tmp_path, runs):
    summary = json.loads((runs("cartpole trpo") / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "evaluation_return": None}))
    assert "evaluation return nan +- " in (saved_result(tmp_path) or "")
