"""CheckedEnv: what passes, what is converted, and what is refused."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from rlopt.envs.spec import EnvSpec
from rlopt.envs.vector import StepCounter
from rlopt.envs.wrappers import CheckedEnv, InvalidOutput


class Given(gym.Env):
    """Returns what it was last given."""

    def __init__(self, space: spaces.Box):
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.given: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.given, {"known": 1}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        return (*self.given, {"known": 2})


FLOATS, BYTES = spaces.Box(-1, 1, (3,), np.float32), spaces.Box(0, 255, (2, 2), np.uint8)
RIGHT = np.zeros(3, np.float32)


def step(*given: Any, space: spaces.Box = FLOATS) -> tuple[Any, ...]:
    env = Given(space)
    env.given = given
    return CheckedEnv(env).step(0)


def test_what_is_right_comes_through_unchanged():
    observation, reward, terminated, truncated, info = step(RIGHT, 0.5, False, True)
    assert observation is RIGHT and (reward, terminated, truncated, info) == (0.5, False, True, {"known": 2})
    env = Given(FLOATS)
    env.given = RIGHT
    assert CheckedEnv(env).reset(seed=3) == (RIGHT, {"known": 1})


def test_numbers_of_the_same_kind_are_converted_without_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for observation in (RIGHT.astype(np.float64), np.zeros(3, np.int64), [0.0, 0.0, 0.0]):
            assert np.array_equal(step(observation, 1, False, False)[0], RIGHT)
        for reward, wanted in ((np.array(2), 2.0), (np.float32(0.5), 0.5), (np.float64(0.5), 0.5), (3, 3), (True, 1)):
            found = step(RIGHT, reward, False, False)[1]
            assert found == wanted and isinstance(found, (float, int))
        for flag in (1, 1.0, np.float32(1), np.bool_(True), np.array(True)):
            assert step(RIGHT, 0.0, flag, False)[2] == True and step(RIGHT, 0.0, False, flag)[3] == True  # noqa: E712


def test_images_of_floats_are_no_bytes():
    assert step(np.ones((2, 2), np.uint8), 0.0, False, False, space=BYTES)[0].sum() == 4
    with pytest.raises(InvalidOutput, match="of type float64 where its space has uint8"):
        step(np.ones((2, 2)) / 2, 0.0, False, False, space=BYTES)


def test_a_type_that_passed_does_not_let_another_shape_pass():
    env = Given(FLOATS)
    checked = CheckedEnv(env)
    env.given = (np.zeros(3), 0.0, False, False)
    checked.step(0)
    env.given = (np.zeros(4), 0.0, False, False)
    with pytest.raises(InvalidOutput, match=r"an observation of shape \(4,\) where its space has \(3,\)"):
        checked.step(0)


def test_the_first_observation_of_an_episode_is_checked_too():
    env = Given(FLOATS)
    env.given = None
    with pytest.raises(InvalidOutput, match=r"an observation of shape \(\) where its space has \(3,\)"):
        CheckedEnv(env).reset()


def test_every_environment_that_is_made_is_checked():
    spec = EnvSpec(name="cartpole", id="CartPole-v1", num_envs=2, backend="sync", timeout=None, kwargs={})
    env = spec.make()
    assert isinstance(env, CheckedEnv) and env.spec.max_episode_steps == 500
    env.close()
    envs = spec.make_vector()
    assert all(isinstance(env, CheckedEnv) for env in envs.envs)
    envs.close()


def test_a_step_counter_has_names_and_describes_itself():
    counter = StepCounter(shared=True)
    assert counter.snapshot() == [0, -1, 0, 0, 0] and counter.describe() == "the environment, at its first reset,"
    counter.step += 1200
    counter.environment, counter.stop_requested = 3, 1
    assert counter.snapshot() == [1200, 3, 1, 0, 0] and counter.describe() == "environment 3, at its step 1,200,"
    counter.replay_calls = 2
    assert counter.describe() == "environment 3, while its episode was replayed,"
