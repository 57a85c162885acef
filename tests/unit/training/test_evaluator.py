"""The evaluator: which score a policy gets, and which policy is the best."""

import math
from contextlib import closing
from dataclasses import dataclass

import pytest

from rlopt.training import evaluator as module
from rlopt.training.evaluator import Evaluator
from tests.support.probes import make_trainer

SMALL = ["env=cartpole", "policy.hidden=[4]", "critic.hidden=[4]"]


@dataclass
class Found:
    mean: float


@pytest.fixture
def made():
    """A function from overrides to an evaluator and the state of its run."""

    def of(*overrides: str):
        run = make_trainer(*SMALL, *overrides)
        with closing(run.collector):
            return Evaluator(run.config, run.agent), run.state

    return of


def test_without_evaluations_the_last_episodes_are_the_score(made):
    evaluator, state = made()
    assert evaluator.after_update(1, state, [1.0, 3.0]) is None
    assert evaluator.score == 2.0 and evaluator.best is None and not evaluator.is_best
    evaluator.after_update(2, state, [])
    assert evaluator.score is None
    evaluator.after_update(3, state, [math.inf])
    assert evaluator.score is None


def test_the_best_is_the_highest_of_the_evaluations(made, monkeypatch):
    evaluator, state = made("evaluation.every_updates=2")
    returns = iter([5.0, 3.0, math.nan, 7.0])
    monkeypatch.setattr(module, "evaluate", lambda *given: Found(next(returns)))
    seen = []
    for update in range(1, 9):
        found = evaluator.after_update(update, state, [100.0])
        assert (found is None) == bool(update % 2)
        seen.append((evaluator.score, evaluator.best, evaluator.is_best))
    assert seen[1::2] == [(5.0, 5.0, True), (3.0, 5.0, False), (None, 5.0, False), (7.0, 7.0, True)]
    assert all(score is None and not best for score, _, best in seen[::2])


def test_at_the_end_the_mode_and_samples_are_evaluated(made, capsys):
    evaluator, state = made("evaluation.episodes=2")
    found = evaluator.at_end(state)
    assert found.keys() == {"evaluation", "sampled_evaluation"}
    assert all(len(one.returns) == 2 for one in found.values())
    assert "2 episodes with the mode, and 2 sampled" in capsys.readouterr().err
    nothing, state = made("evaluation.episodes=0")
    assert nothing.at_end(state) == {}


def test_a_video_that_cannot_be_made_costs_the_video_alone(made, monkeypatch, capsys):
    evaluator, state = made()
    assert evaluator.record_video(state) is None
    evaluator, state = made("record.video_steps=4")

    def fail(*given):
        raise ZeroDivisionError("no light")

    monkeypatch.setattr(module, "animation", fail)
    assert evaluator.record_video(state) is None
    assert "rlopt: there is no video: ZeroDivisionError: no light" in capsys.readouterr().err
