"""Environments without a registry: classes, functions and environments; what is none of these is told."""

import gymnasium as gym
import pytest

from rlopt.envs.given import given, make_own
from rlopt.errors import UserError


class Grid(gym.Env):
    def __init__(self, size=3):
        self.size = size


class Drawn(Grid):
    def __init__(self, render_mode=None):
        super().__init__()
        self.mode = render_mode


def test_a_class_has_the_id_by_which_it_is_imported():
    found = given(Grid, "python")
    assert found.id == f"{__name__}:Grid" and found.make is Grid


def test_what_has_no_name_is_of_python():
    assert given(lambda: Grid(), "python").id.startswith("python:")


def test_an_environment_is_copied():
    env = Grid(5)
    found = given(env, "python")
    assert found.id == "python:Grid"
    first, second = found.make(), found.make()
    assert first.size == 5 and len({id(env), id(first), id(second)}) == 3


def test_options_are_arguments():
    assert make_own(Grid, {"size": 7, "render_mode": "rgb_array"}).size == 7
    assert make_own(Drawn, {"render_mode": "rgb_array"}).mode == "rgb_array"


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        (3, "env must be a name, a class, a function that makes an environment, or one; got 3"),
        (gym.vector.SyncVectorEnv, "env must make one environment, not several side by side"),
    ],
)
def test_what_makes_no_environment_is_refused(thing, says):
    with pytest.raises(UserError, match=says):
        given(thing, "python")


def test_a_function_that_makes_something_else_is_refused():
    with pytest.raises(UserError, match="a gymnasium.Env is wanted"):
        make_own(dict, {})
