"""A policy in numpy: one observation or many, of every space."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from tests.support.acting import EVERY, equal, moved, seen

pytestmark = pytest.mark.usefixtures("elsewhere", "probe_environments")


@pytest.mark.parametrize("kind", EVERY)
def test_one_observation_or_many_of_every_space(kind):
    policy = moved(*EVERY[kind])
    space, actions = policy.observation_space, policy.action_space
    each = seen(policy, 5)
    many = concatenate(space, each, create_empty_array(space, 5)) if not isinstance(space, gym.spaces.Box) else each
    taken = policy(many)
    assert batch_space(actions, 5).contains(taken)
    assert all(equal(policy(one), row) for one, row in zip(each, iterate(batch_space(actions, 5), taken), strict=True))
    assert actions.contains(policy(each[0]))
    assert batch_space(actions, 5).contains(policy.sample(many, np.random.default_rng(0)))
    a, b, c = (policy.sample(many, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert equal(a, b)
    assert kind == "Joint" or not equal(a, c) or len(np.unique(a)) <= 4
    assert policy.outputs(many).shape == (5, policy.frozen.width)


def test_observations_of_another_shape_are_refused():
    policy = moved("env=cartpole")
    for wrong in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 1, 4)), 1.0):
        with pytest.raises(ValueError, match=r"an observation has shape \(4,\)"):
            policy(wrong)
    with pytest.raises(ValueError, match=r"a number that is none \(NaN\): \[\[ *0\. +nan"):
        policy([0, np.nan, 0, 0])


@pytest.mark.parametrize(("overrides", "wrong"), [
    (["env.id=probe/Dict-v0"], [np.zeros(4), {"high": 99, "low": 0, "which": [0.0]}, {"high": 0, "low": 0.5, "which": [0.0]},
                                {"high": 0, "low": 0, "which": np.zeros(3)}]),
    (["env.id=probe/Tuple-v0"], [np.zeros(4), 1.0, (), None, {}]),
])  # fmt: skip
def test_what_is_no_observation_of_several_parts_is_refused(overrides, wrong):
    policy = moved(*overrides)
    for observation in wrong:
        with pytest.raises(ValueError, match="an observation (is|has)"):
            policy(observation)


def test_only_the_episodes_that_are_remembered_can_be_forgotten():
    policy = moved("env=cartpole", "policy=gru", "schedule.sequence=20")
    policy(np.ones((3, 4), np.float32))
    for wrong in ([True], [True] * 4, True):
        with pytest.raises(ValueError, match=r"reset takes true or false for each of 3 episodes; got"):
            policy.reset(wrong)
    policy.reset([False, True, False])
    assert policy.state.any(1).tolist() == [True, False, True]
