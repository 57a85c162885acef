"""What is simulated, of Gymnasium's tasks and of classes of one's own."""

import gymnasium as gym
import numpy as np
import pytest

from rlopt.envs.mujoco.hopper import Hopper
from rlopt.envs.warp import simulation_of
from rlopt.errors import UserError
from tests.support.warp import simulation
from tests.support.warp_balance import Balance


def test_gymnasiums_task_is_taken_with_its_options():
    one = simulation("Hopper", reset_noise_scale=0.5, max_episode_steps=9)
    assert isinstance(one.task, Hopper) and one.task.options.reset_noise_scale == 0.5
    assert (one.limit, one.frame_skip) == (9, 4) and one.model.nq == len(one.begin[0]) == 6
    assert np.array_equal(one.begin[0], [0, 1.25, 0, 0, 0, 0]) and one.action_space.shape == (3,)


def test_a_class_of_ones_own_has_the_shorter_of_two_limits():
    assert simulation_of("x.py:Balance", Balance(), {}).limit == 100
    gym.register("test/Balance-v0", Balance, max_episode_steps=30)
    try:
        one = simulation_of("test/Balance-v0", gym.make("test/Balance-v0"), {})
        assert one.limit == 30 and isinstance(one.task, Balance)
    finally:
        del gym.registry["test/Balance-v0"]


def test_others_are_refused():
    with pytest.raises(
        UserError, match=r"classes of rlopt.envs.mujoco.MjcfEnv; this is neither; type env.backend=sync"
    ):
        simulation_of("CartPole-v1", gym.make("CartPole-v1"), {})
