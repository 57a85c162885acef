"""A sweeper that draws values: what it is told of a run, where Optuna's keeps its trials, and what is missing."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from rlopt.cli import sweep
from rlopt.cli.sweep_run import Sweep
from tests.support.command_line import SHORT

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_score_is_of_the_evaluation_or_of_training():
    runs = Sweep(lambda overrides: 0, Path.cwd(), ["seed"], (), ())
    folder = Path("seed=1")
    folder.mkdir()
    assert math.isnan(runs.score(["seed=1"]))
    for summary, score in (({"return_mean": 3.5}, 3.5), ({"return_mean": 3.5, "evaluation_return": 7}, 7.0),
                           ({"return_mean": None, "evaluation_return": None}, math.nan)):  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
        assert runs.score(["seed=1"]) == pytest.approx(score, nan_ok=True)


def test_trials_are_kept_beside_the_runs_unless_said_otherwise():
    here = Path("study").absolute()
    [told] = sweep._study(["hydra/sweeper=optuna", "seed=1"], here)
    assert f"sqlite:///{here}/optuna.db" in told
    assert sweep._study(["hydra/sweeper=optuna", "hydra.sweeper.storage='sqlite:///a.db'"], here) == []
    assert sweep._study(["seed=1,2"], here) == []


@pytest.mark.parametrize(("typed", "extra"), [("hydra/sweeper=optuna", "optuna"), ("hydra/launcher=ray", "ray")])
def test_an_absent_package_is_named_with_its_extra(run, monkeypatch, typed, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, _, err = run("train", "-m", "seed=1,2", typed, *SHORT)
    assert code == 2 and f"pip install 'rlopt-geometry[{extra}]'" in err and len(err.splitlines()) == 1
