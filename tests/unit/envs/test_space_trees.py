"""Spaces as trees: they come back equal through a checkpoint, and what is none is refused."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rlopt.checkpoint.format import load, write
from rlopt.envs.space_trees import from_tree, to_tree

SPACES = {
    "box": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "bounds": spaces.Box(np.array([[-1.0, 2]], np.float32), np.array([[0.5, np.inf]], np.float32)),
    "image": spaces.Box(0, 255, (8, 9, 3), np.uint8),
    "scalar": spaces.Box(0, 1, (), np.float32),
    "whole": spaces.Box(-(2**40), 2**40, (2,), np.int64),
    "discrete": spaces.Discrete(4, start=-2),
    "categories": spaces.MultiDiscrete([3, 4], start=[1, 0]),
    "matrix": spaces.MultiDiscrete([[3, 4], [2, 2]]),
    "bits": spaces.MultiBinary(5),
    "bit matrix": spaces.MultiBinary([2, 3]),
    "dict": spaces.Dict({"b": spaces.Discrete(2), "a": spaces.Tuple([spaces.MultiBinary(2), spaces.Box(0, 1, (2,))])}),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_space_comes_back_from_a_checkpoint(space, tmp_path):
    path = tmp_path / "step-000000000001.safetensors"
    write(path, 1, {"space": to_tree(space)}, None)
    found = from_tree(load(path)["space"])
    assert found == space
    if isinstance(space, spaces.Box):
        assert found.dtype == space.dtype and found.low.dtype == space.low.dtype
    if isinstance(space, spaces.Dict):
        assert list(found.spaces) == list(space.spaces)


def test_a_space_that_no_checkpoint_holds_has_no_tree():
    assert to_tree(spaces.Text(3)) is None
    assert to_tree(spaces.Dict(a=spaces.Discrete(2), b=spaces.Text(3))) is None


BROKEN = [
    None, 3, [], {}, {"kind": "os.system"}, {"kind": "Discrete", "n": 0, "start": 0}, {"kind": "Discrete", "n": "x"},
    {"kind": "Box", "dtype": "object", "shape": [1], "low": torch.zeros(1), "high": torch.ones(1)},
    {"kind": "Box", "dtype": "float32", "shape": [10**6, 10**6], "low": torch.zeros(1), "high": torch.ones(1)},
    {"kind": "Box", "dtype": "float32", "shape": [-1], "low": torch.zeros(1), "high": torch.ones(1)},
    {"kind": "Box", "dtype": "float32", "shape": [3], "low": torch.zeros(2), "high": torch.ones(1)},
    {"kind": "MultiDiscrete", "nvec": torch.tensor([2**40]), "start": torch.tensor([0])},
    {"kind": "Dict", "keys": ["a", "b"], "parts": [{"kind": "Discrete", "n": 2, "start": 0}]},
]  # fmt: skip


@pytest.mark.parametrize("tree", BROKEN, ids=repr)
def test_a_tree_that_is_no_space_is_refused(tree):
    with pytest.raises(ValueError):
        from_tree(tree)


def test_nothing_is_allocated_for_a_space_that_is_too_large():
    with pytest.raises(ValueError, match="a space of 1,000,000,000,000 numbers"):
        from_tree(BROKEN[8])
