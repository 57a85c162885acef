"""Tensors get what arrays get."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlopt.envs.spaces import action_transform
from rlopt.envs.tensor.actions import tensor_transform
from rlopt.errors import UserError
from tests.support.tensors import NoWaiting

LIKE = torch.empty(0, dtype=torch.float64)
WIDE = torch.tensor([[-9.0, 0.3, torch.nan], [torch.inf, -0.2, 1.0], [0.5, -torch.inf, 4.0]], dtype=torch.float64)
WHOLE = torch.tensor([[0, 1, 1], [1, 0, 2]])
CASES = {
    "bounds": (spaces.Box(-2, 3, (3,), np.float64), False, WIDE),
    "squashed": (spaces.Box(-2, 3, (3,), np.float64), True, WIDE),
    "one bound": (spaces.Box(0, np.inf, (3,), np.float64), False, WIDE),
    "no bounds": (spaces.Box(-np.inf, np.inf, (3, 1), np.float64), False, WIDE),
    "categories": (spaces.Discrete(3), False, torch.tensor([0, 2])),
    "categories from 5": (spaces.Discrete(3, start=5), False, torch.tensor([0, 2])),
    "several": (spaces.MultiDiscrete([2, 2, 3], start=[1, 0, 4]), False, WHOLE),
    "bits": (spaces.MultiBinary(3), False, WHOLE.clamp(max=1).double()),
    "whole numbers": (spaces.Box(-1, 4, (3,), np.int32), False, WHOLE),
}


@pytest.mark.parametrize("name", CASES)
def test_tensors_get_what_arrays_get(name):
    space, squash, actions = CASES[name]
    transform, expected = tensor_transform(space, squash, LIKE), action_transform(space, squash)(actions)
    with NoWaiting():
        found = transform(actions)
    assert found.numpy() == pytest.approx(expected, rel=1e-15, abs=1e-15) and found.numpy().shape == expected.shape
    assert found.numpy().dtype == expected.dtype


def test_the_transform_is_on_the_device():
    like = torch.empty(0, device="meta")
    for space, squash, actions in CASES.values():
        assert tensor_transform(space, squash, like)(actions.to("meta")).is_meta


def test_actions_of_several_parts_are_refused():
    with pytest.raises(UserError, match=r"serves no actions of Dict\(.*; type env.backend=sync"):
        tensor_transform(spaces.Dict(a=spaces.Discrete(2)), False, LIKE)
