import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlopt.core.heads import Categorical, DiagonalGaussian
from rlopt.errors import UserError
from rlopt.rollout.spaces import ActionDoor, Gaussian, head_for, observation_size

GAUSSIAN = Gaussian(scale="sigma", initial_sigma=0.3, squash=True)


def door(space: gym.Space, *actions: list[float], squash: bool = False) -> np.ndarray:
    return ActionDoor(space, squash)(torch.tensor(actions, dtype=torch.float64))


def test_policy_actions_are_mapped_affinely_to_finite_bounds():
    space = spaces.Box(np.array([-2, 0, 10], np.float32), np.array([2, 1, 30], np.float32))
    out = door(space, [-1, -1, -1], [0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5])
    assert out.tolist() == [[-2, 0, 10], [0, 0.5, 20], [2, 1, 30], [1, 0.75, 25]]
    assert out.dtype == np.float32


def test_actions_beyond_the_bounds_are_clipped():
    assert door(spaces.Box(-2, 2, (1,), np.float32), [-7], [1.01], [1e30]).tolist() == [[-2], [2], [2]]


def test_infinite_and_half_infinite_bounds_only_clip():
    space = spaces.Box(np.array([-np.inf, -np.inf, -1.5]), np.array([np.inf, 0.5, np.inf]), dtype=np.float64)
    assert door(space, [7, 7, 7], [-7, -7, -7], [0.25, 0.25, 0.25]).tolist() == [
        [7, 0.5, 7],
        [-7, -7, -1.5],
        [0.25, 0.25, 0.25],
    ]


def test_mixed_bounds_are_each_treated_as_their_own():
    space = spaces.Box(np.array([-4, -np.inf, 0]), np.array([4, np.inf, np.inf]), dtype=np.float64)
    assert door(space, [0.5, 9, -1]).tolist() == [[2, 9, 0]]


def test_squashing_sends_tanh_of_the_action():
    out = door(spaces.Box(-2, 2, (2,), np.float64), [0.3, -40], squash=True)
    np.testing.assert_allclose(out, [[2 * np.tanh(0.3), -2]], rtol=1e-15)


def test_actions_take_the_shape_of_the_space():
    out = door(spaces.Box(-1, 1, (2, 3), np.float32), list(np.linspace(-1, 1, 6)))
    assert out.shape == (1, 2, 3)
    np.testing.assert_allclose(out[0].ravel(), np.linspace(-1, 1, 6), atol=1e-7)


@pytest.mark.parametrize("start", [0, 5, -1])
def test_discrete_actions_begin_at_the_start_of_the_space(start):
    space = spaces.Discrete(3, start=start)
    out = ActionDoor(space, False)(torch.tensor([0, 1, 2]))
    assert out.tolist() == [start, start + 1, start + 2]
    assert all(space.contains(a) for a in out)


def test_the_head_fits_the_space():
    assert head_for(spaces.Discrete(4), GAUSSIAN) == Categorical(4)
    box = spaces.Box(-1, 1, (2, 3), np.float32)
    assert head_for(box, GAUSSIAN) == DiagonalGaussian(6, scale="sigma", initial_sigma=0.3, squash=True)


@pytest.mark.parametrize(
    "space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(0, 255, (2,), np.uint8), spaces.Dict()]
)
def test_actions_that_are_not_served_are_refused_with_what_is(space):
    with pytest.raises(UserError, match="not served; rlopt serves Discrete and Box"):
        head_for(space, GAUSSIAN)


def test_observations_are_flattened_boxes_and_nothing_else():
    assert observation_size(spaces.Box(-1, 1, (2, 3))) == 6
    with pytest.raises(UserError, match="Discrete are not served; rlopt serves Box"):
        observation_size(spaces.Discrete(3))
