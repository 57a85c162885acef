"""Spaces as trees of numbers and text, which a checkpoint holds: a policy can be loaded without its environment.

| space         | its tree, beside ``kind``                                                |
|---|---|
| Box           | dtype, shape, and low and high: one number for all, or one for each      |
| Discrete      | n, start                                                                 |
| MultiDiscrete | nvec and start, in the shape of the space                                |
| MultiBinary   | shape                                                                    |
| Dict          | keys and parts                                                           |
| Tuple         | parts                                                                    |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

_MOST = 2**27  # numbers of an observation or an action
_DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


def to_tree(space: gym.Space) -> dict[str, Any] | None:
    """The tree of a space; None where it holds something that has none, such as Text."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = list(space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces)
        parts = [to_tree(part) for part in inner]
        if None in parts:
            return None
        keys = list(space.spaces) if isinstance(space, spaces.Dict) else []
        if not all(isinstance(key, str) for key in keys):
            return None
        return {"kind": type(space).__name__, "keys": keys, "parts": parts}
    if isinstance(space, spaces.Box):
        if (dtype := np.dtype(space.dtype).name) not in _DTYPES:
            return None
        return {
            "kind": "Box",
            "dtype": dtype,
            "shape": list(space.shape),
            "low": _short(space.low),
            "high": _short(space.high),
        }
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        nvec, start = (torch.as_tensor(np.asarray(x, np.int64)) for x in (space.nvec, space.start))
        return {"kind": "MultiDiscrete", "nvec": nvec, "start": start}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
    return None


def from_tree(tree: Any) -> gym.Space:
    """The space of a tree. Raises ValueError where it is none; it may come from a stranger."""
    try:
        return _space(tree)
    except (KeyError, TypeError, AssertionError, OverflowError, RuntimeError, AttributeError) as error:
        raise ValueError(f"its spaces cannot be read: {type(error).__name__}: {error}") from error


def _space(tree: Mapping[str, Any]) -> gym.Space:
    kind = tree["kind"]
    if kind == "Dict":
        parts = zip(tree["keys"], tree["parts"], strict=True)
        return spaces.Dict([(str(key), _space(part)) for key, part in parts])
    if kind == "Tuple":
        return spaces.Tuple([_space(part) for part in tree["parts"]])
    if kind == "Box":
        shape, dtype = _shape(tree["shape"]), tree["dtype"]
        if dtype not in _DTYPES:
            raise ValueError(f"a Box of {str(dtype)[:40]}")
        low, high = (_whole(tree[name], shape, np.dtype(dtype)) for name in ("low", "high"))
        return spaces.Box(low, high, shape, np.dtype(dtype).type)
    if kind == "Discrete":
        return spaces.Discrete(_count(tree["n"]), start=int(tree["start"]))
    if kind == "MultiDiscrete":
        nvec, start = (tree[name].numpy().astype(np.int64) for name in ("nvec", "start"))
        _count(int(nvec.sum()))
        return spaces.MultiDiscrete(nvec, start=start)
    if kind == "MultiBinary":
        shape = _shape(tree["shape"])
        return spaces.MultiBinary(shape[0] if len(shape) == 1 else list(shape))
    raise ValueError(f"there is no space {str(kind)[:40]}")


def _short(bound: np.ndarray) -> Tensor:
    """A bound (N,), or (1,) where all of its numbers are one."""
    flat = bound.reshape(-1)
    return torch.as_tensor(flat[:1].copy() if len(flat) and (flat == flat[0]).all() else flat.copy())


def _whole(bound: Tensor, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    numbers = bound.numpy().astype(dtype)
    return np.full(shape, numbers[0], dtype) if numbers.shape == (1,) else numbers.reshape(shape)


def _shape(given: Any) -> tuple[int, ...]:
    shape = tuple(int(n) for n in given)
    if any(n < 0 for n in shape):
        raise ValueError(f"a shape of {shape}")
    _count(math.prod(shape))
    return shape


def _count(n: Any) -> int:
    if not 0 <= int(n) <= _MOST:
        raise ValueError(f"a space of {int(n):,} numbers")
    return int(n)
