"""The loop that steps environments, and a rollout that is put together from several samplers."""

import numpy as np
import pytest
import torch

from rlopt.envs.vector import StepCounter
from rlopt.errors import EnvironmentFault
from rlopt.rollout.sampler import FinalObservations, assemble_rollout, mark_infinite, step_environments


class Envs:
    """Returns the actions that it is given."""

    def __init__(self, fails_at: int | None = None):
        self.given, self.fails_at = [], fails_at

    def step(self, actions):
        self.given.append(actions)
        if len(self.given) == self.fails_at:
            raise ZeroDivisionError("of no use")
        return actions, 0.0, False, False, {}


def test_every_step_acts_steps_and_counts():
    envs, counter = Envs(), StepCounter()
    loop = step_environments(envs.step, lambda t: 10 * t, counter, str)
    assert [next(loop)[0] for _ in range(3)] == [0, 10, 20] == envs.given
    assert counter.step == 3


def test_it_ends_before_a_step_when_a_stop_is_requested():
    envs, counter = Envs(), StepCounter()
    loop = step_environments(envs.step, lambda t: t, counter, str)
    next(loop)
    counter.stop_requested = True
    assert list(loop) == [] and envs.given == [0]


def test_an_environment_that_fails_is_named_and_a_policy_is_not():
    loop = step_environments(Envs(fails_at=2).step, lambda t: t, StepCounter(), lambda: "environment 7")
    next(loop)
    with pytest.raises(EnvironmentFault, match="environment 7 .*ZeroDivisionError: of no use"):
        next(loop)
    with pytest.raises(ZeroDivisionError):
        next(step_environments(Envs().step, lambda t: 1 // 0, StepCounter(), str))


def test_infinite_observations_are_not_hidden_by_clipping():
    raw = torch.tensor([[1.0, torch.inf], [-torch.inf, torch.nan]])
    marked = mark_infinite(torch.zeros(2, 2), raw)
    assert marked.isnan().tolist() == [[False, True], [True, True]] and marked[0, 0] == 0
    assert not mark_infinite(torch.zeros(1, 2), torch.tensor([[1, 2]], dtype=torch.uint8)).isnan().any()


class Doubling:
    def normalise(self, raw, out):
        return torch.mul(raw, 2, out=out)


def test_final_observations_are_in_the_order_of_time():
    names = (
        "inputs",
        "observations",
        "following",
        "actions",
        "outputs",
        "rewards",
        "terminated",
        "truncated",
        "mask",
        "time",
        "episode",
    )
    buffer = {name: torch.zeros(1) for name in names}
    finals = [
        FinalObservations(np.array([2, 0]), np.array([0, 1]), np.array([[20.0], [1.0]])),
        FinalObservations(np.array([0]), np.array([0]), np.array([[np.inf]])),
    ]
    rollout = assemble_rollout(buffer, finals, Doubling(), first=4, total=9)
    t, e = rollout.final_index
    assert (t.tolist(), e.tolist()) == ([0, 0, 2], [0, 1, 0])
    assert rollout.final[1:].tolist() == [[2.0], [40.0]] and rollout.final[0].isnan()
    assert rollout.raw_final.tolist() == [[np.inf], [1.0], [20.0]]
    assert (rollout.first, rollout.total) == (4, 9)
