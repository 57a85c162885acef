"""Observations: every part is checked against its own space, and all parts become one flat array.

| observations                         | the network is given                                                    |
|---|---|
| Box                                  | its numbers                                                             |
| Discrete, MultiDiscrete, MultiBinary | one-hots and bits, which no normaliser changes                          |
| Dict, Tuple                          | their parts one after another, in the order of gymnasium.spaces.flatten |

Without the checks numpy would spread one number over a whole part, count from the end for a negative category, or take
parts of other shapes for the right ones, and nobody would know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.errors import UserError, in_one_line

_SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class InvalidOutput(ValueError):
    """An environment returned something of another shape, type or range than it promised."""


def check_observation_space(space: Any) -> None:
    """Raise UserError where rlopt cannot use observations of this space."""
    if not isinstance(space, gym.Space):
        raise UserError(f"its observation_space is {describe_kind(space)}, and no space of gymnasium.spaces")
    leaves = list(leaves_of(space)) or [space]
    unsupported = next((leaf for leaf in leaves if not isinstance(leaf, _SUPPORTED)), None)
    if unsupported is not None:
        within = "" if unsupported is space else f" (within {type(space).__name__})"
        raise UserError(
            f"observations of {type(unsupported).__name__}{within} are not served; rlopt serves Box, Discrete, "
            "MultiDiscrete, MultiBinary, and Dict and Tuple of these. Leave the others out by "
            "gymnasium.wrappers.FilterObservation or TransformObservation, and register the result under its own id"
        )
    if spaces.flatdim(space) == 0:
        raise UserError(f"its observations, of {describe_space(space)}, hold no number; give at least one")


def leaves_of(space: gym.Space) -> Iterator[gym.Space]:
    """The parts of a space that have no parts themselves, in the order in which they are flattened."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield space
        return
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
        yield from leaves_of(part)


def indicators(space: gym.Space) -> tuple[int, ...]:
    """Indices within a flat observation of ``space`` of the numbers that belong to one-hots or bits."""
    flags = [np.full(spaces.flatdim(leaf), not isinstance(leaf, spaces.Box)) for leaf in leaves_of(space)]
    return tuple(np.flatnonzero(np.concatenate(flags)).tolist())


def describe_space(space: gym.Space) -> str:
    """A space in one line, without the bounds of every number."""
    return f"Box{space.shape} of {space.dtype}" if isinstance(space, spaces.Box) else " ".join(str(space).split())


def describe_kind(thing: Any) -> str:
    """The full name of a thing's class, or None."""
    return "None" if thing is None else f"a {type(thing).__module__}.{type(thing).__qualname__}"


def flattener(space: gym.Space) -> Callable[[Any], np.ndarray]:
    """A function from an observation of ``space`` to its flat array, which raises InvalidOutput where a part is wrong.

    Its result has the bits of gymnasium.spaces.flatten.
    """
    dtype = spaces.flatten_space(space).dtype

    def flatten(observation: Any) -> np.ndarray:
        found: list[np.ndarray] = []
        _add_parts(space, observation, "observation", found)
        return np.concatenate(found).astype(dtype, copy=False)

    return flatten


def _add_parts(space: gym.Space, value: Any, name: str, found: list[np.ndarray]) -> None:
    """Add the flat leaves of ``value`` to ``found``."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            try:
                inner = value[key]
            except (KeyError, TypeError, IndexError, ValueError) as error:
                raise InvalidOutput(f"{_subject(name)} without {key!r}, which its space has") from error
            _add_parts(part, inner, f"{name}[{key!r}]", found)
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list | np.ndarray) or len(value) != len(space.spaces):
            count = f"{len(value)} parts" if isinstance(value, tuple | list) else type(value).__name__
            raise InvalidOutput(f"{_subject(name)} of {count} where its space has {len(space.spaces)} parts")
        for i, part in enumerate(space.spaces):
            _add_parts(part, value[i], f"{name}[{i}]", found)
    elif isinstance(space, spaces.Box):
        found.append(check_box(space, value, name).astype(space.dtype, copy=False).reshape(-1))
    else:
        found.append(_bits(space, value, name))


def check_box(space: spaces.Box, value: Any, name: str = "observation") -> np.ndarray:
    """``value`` as an array of the shape of ``space``. Raises InvalidOutput.

    Numbers of the same kind pass: float64 where the space has float32, and whole numbers where it has either, as long
    as they fit.
    """
    array = value if isinstance(value, np.ndarray) else to_array(value)
    if array.shape != space.shape:
        raise InvalidOutput(f"{_subject(name)} of shape {array.shape} where its space has {space.shape}")
    whole = array.dtype.kind in "iub" and space.dtype.kind in "iu"
    if not whole and not np.can_cast(array.dtype, space.dtype, "same_kind"):
        raise InvalidOutput(f"{_subject(name)} of type {array.dtype} where its space has {space.dtype}")
    if whole and array.dtype != space.dtype and array.size:
        limits = np.iinfo(np.dtype(space.dtype).name)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            wrong = int(array.min()) if int(array.min()) < limits.min else int(array.max())
            raise InvalidOutput(f"{_subject(name)} with {wrong}, which {space.dtype} of its space cannot hold")
    return array


def _bits(space: gym.Space, value: Any, name: str) -> np.ndarray:
    """One-hots of categories, or bits, (D,). Raises InvalidOutput where the value is not in the space."""
    array, shape = to_array(value), space.shape or ()
    if array.shape != shape:
        raise InvalidOutput(f"{_subject(name)} of shape {array.shape} where its space has {shape}")
    if array.dtype.kind not in "iub":
        raise InvalidOutput(f"{_subject(name)} of type {array.dtype} where its space has whole numbers")
    array = array.astype(np.int64).reshape(-1)
    if isinstance(space, spaces.MultiBinary):
        first, counts = np.zeros_like(array), np.full_like(array, 2)
    elif isinstance(space, spaces.Discrete):
        first, counts = np.array([space.start]), np.array([space.n])
    else:
        assert isinstance(space, spaces.MultiDiscrete)
        first, counts = space.start.reshape(-1), space.nvec.reshape(-1)
    inside = (array >= first) & (array < first + counts)
    if not inside.all():
        i = int(np.argmin(inside))
        where = f", number {i} of them," if len(array) > 1 else ""
        allowed = f"{first[i]} to {first[i] + counts[i] - 1}"
        raise InvalidOutput(f"{_subject(name)} of {array[i]}{where} where its space has {allowed}")
    if isinstance(space, spaces.MultiBinary):
        return array.astype(space.dtype)
    onehot = np.zeros(int(counts.sum()), space.dtype)
    onehot[np.cumsum(counts) - counts + array - first] = 1
    return onehot


def _subject(name: str) -> str:
    return "an observation" if name == "observation" else name


def to_array(thing: Any) -> np.ndarray:
    """The thing as an array. Raises InvalidOutput where it is none."""
    try:
        return np.asarray(thing)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # such as lists of different lengths
        raise InvalidOutput(f"{type(thing).__name__} that is no array: {in_one_line(error)}") from error
