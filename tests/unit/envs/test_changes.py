"""A change of an environment reaches the outermost layer that has the name, with values of its own."""

import gymnasium as gym
import pytest

from rlopt.envs.changes import change


class Slope(gym.Env):
    steepness = 1.0

    def set_wind(self, wind, gusts):
        self.wind = wind, gusts


class Steeper(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self.steepness = 2.0


def what(name, *arguments, attribute=False):
    return {"rollout": 3, "name": name, "set": attribute, "arguments": list(arguments)}


def test_an_attribute_is_set_where_it_is_outermost():
    env = Steeper(Slope())
    change(env, what("steepness", 5.0, attribute=True))
    assert env.steepness == 5.0 and env.unwrapped.steepness == 1.0


def test_a_method_is_called_with_copies():
    env, gusts = Steeper(Slope()), [1, 2]
    change(env, what("set_wind", 0.5, gusts))
    gusts.append(3)
    assert env.unwrapped.wind == (0.5, [1, 2])


def test_a_name_that_is_nowhere_is_told():
    with pytest.raises(AttributeError, match="neither Slope nor a wrapper of it has tilt"):
        change(Steeper(Slope()), what("tilt", 1, attribute=True))
