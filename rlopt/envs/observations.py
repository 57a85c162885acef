"""Observations: every part is checked against its own space, all become one flat array, and bytes may be images.

| observations                         | the network is given                                                    |
|---|---|
| Box                                  | its numbers                                                             |
| Discrete, MultiDiscrete, MultiBinary | one-hots and bits, which no normaliser changes                          |
| Dict, Tuple                          | their parts one after another, in the order of gymnasium.spaces.flatten |

Without the checks numpy would spread one number over a whole part, count from the end for a negative category, or take
parts of other shapes for the right ones, and nobody would know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from rlopt.errors import UserError, in_one_line

_SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class InvalidOutput(ValueError):
    """An environment returned something of another shape, type or range than it promised."""


def check_observation_space(space: Any) -> None:
    """Raise UserError where rlopt cannot use observations of this space."""
    if not isinstance(space, gym.Space):
        raise UserError(f"its observation_space is {describe_kind(space)}, and no space of gymnasium.spaces")
    unsupported = next((leaf for leaf in leaves_of(space) if not isinstance(leaf, _SUPPORTED)), None)
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


def number_of(info: Mapping[str, Any], name: str) -> float:
    """The entry of an info as a number; NaN where it is absent or None. Raises InvalidOutput where it is no number."""
    value = info.get(name)
    if value is None:
        return math.nan
    array = to_array(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
        shown = f"of shape {array.shape}" if array.size != 1 else f"of type {type(value).__name__}"
        raise InvalidOutput(f"info[{name!r}] {shown} where record.info wants a number")
    return float(array.reshape(-1)[0])


@dataclass(frozen=True)
class Image:
    """Shape of an observation of unsigned bytes; stored flat, (B, H W C) or (B, C H W)."""

    height: int  # pixels
    width: int
    channels: int
    channels_last: bool
    high: float = 255.0  # the largest value of a pixel, by which networks divide
    frames: int = 1  # images one after another, as a stack of frames has them

    def __str__(self) -> str:
        return f"{self.height} x {self.width} pixels, {self.channels} channel{'s' * (self.channels > 1)}"


class ImageBox(spaces.Box):
    """A Box of bytes whose observations a network sees as images; see `as_image`."""

    image: Image


class PartsBox(spaces.Box):
    """A Box of flat observations, which came from another space."""

    declared: gym.Space
    pixels: tuple[tuple[slice, float], ...] = ()  # where images of bytes are, and the largest value of each


class MaskedBox(spaces.Box):
    """Rows of an observation and an action mask, [D | M], see rlopt.envs.masks; ``inner`` is of the observation."""

    inner: spaces.Box

    @classmethod
    def of(cls, inner: spaces.Box, count: int) -> MaskedBox:
        """Rows of observations of ``inner`` with a mask of ``count`` numbers."""
        low, high = np.zeros(count, inner.dtype), np.ones(count, inner.dtype)
        bounds = np.concatenate([inner.low.reshape(-1), low]), np.concatenate([inner.high.reshape(-1), high])
        found = cls(*bounds, dtype=inner.dtype)
        found.inner = inner
        return found


def unmasked(space: gym.Space) -> gym.Space:
    """The Box of the observations alone; the space itself where there is no mask."""
    return space.inner if isinstance(space, MaskedBox) else space


def mask_size(space: gym.Space) -> int:
    """M, the numbers of the mask in a row of ``space``; 0 where there is none."""
    return observation_size(space) - observation_size(space.inner) if isinstance(space, MaskedBox) else 0


def observation_size(space: gym.Space) -> int:
    """D, the length of a flat observation of a Box."""
    assert isinstance(space, spaces.Box)
    return int(np.prod(space.shape))


def flat_space(space: gym.Space) -> PartsBox:
    """The Box of the flat observations of ``space``."""
    flat = spaces.flatten_space(space)
    assert isinstance(flat, spaces.Box)
    found = PartsBox(flat.low, flat.high, flat.shape, flat.dtype.type)
    found.declared = space
    return found


def declared(space: gym.Space) -> gym.Space:
    """The space that observations had before they were flattened."""
    return space.declared if isinstance(space, PartsBox) else space


def pixels(space: gym.Space) -> tuple[tuple[slice, float], ...]:
    """Where flat observations of ``space`` hold images of bytes that a network sees, and their largest values."""
    return space.pixels if isinstance(space, PartsBox) else ()


def is_picture(space: gym.Space) -> bool:
    """Whether a part of an observation can be an image or several: bytes in 2, 3 or 4 dimensions, none of them 0."""
    bytes_ = isinstance(space, spaces.Box) and space.dtype == np.uint8
    return bytes_ and len(space.shape or ()) in (2, 3, 4) and 0 not in (space.shape or ())


def _with_pixels(space: PartsBox) -> PartsBox:
    found, start = flat_space(space.declared), 0
    for leaf in leaves_of(space.declared):
        at = slice(start, start := start + spaces.flatdim(leaf))
        if is_picture(leaf):
            assert isinstance(leaf, spaces.Box)
            found.pixels += ((at, max(float(leaf.high.max()), 1.0)),)
    return found


def as_image(space: gym.Space, order: str) -> gym.Space:
    """``space`` as an ImageBox where its observations are images, by ``order``, a value of observations.image.

    "auto" takes Boxes of bytes in 2 or 3 dimensions for images, "channels_first" and "channels_last" say where the
    channels are, and "none" means that there are no images. A Dict or Tuple has images among its parts; a network's
    own options say where their channels are. Raises UserError where the order does not suit the space.
    """
    if isinstance(space, PartsBox) and order == "auto":
        return _with_pixels(space)
    may_be = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)
    if order == "none" or (order == "auto" and not may_be):
        return space
    if not may_be:
        raise UserError(
            f"observations.image={order} is for Boxes of uint8 in 2 or 3 dimensions; the observations are "
            f"{describe_space(space)}; type observations.image=none"
        )
    assert isinstance(space, spaces.Box)
    found = ImageBox(space.low, space.high, space.shape, np.uint8)
    last = _has_channels_last(space.shape) if order == "auto" else order == "channels_last"
    if len(space.shape) == 2:
        height, width, channels = *space.shape, 1
    else:
        height, width, channels = space.shape if last else (*space.shape[1:], space.shape[0])
    found.image = Image(height, width, channels, last, max(float(space.high.max()), 1.0))
    return found


def _has_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether the last of three axes holds channels: the other two are equal, or it is shorter than the first."""
    if len(shape) == 2 or shape[0] == shape[1]:
        return len(shape) == 3
    if shape[0] == shape[2]:
        raise UserError(
            f"which axis of an image of shape {shape} holds the channels cannot be told; type "
            "observations.image=channels_last or observations.image=channels_first"
        )
    return shape[1] != shape[2] and shape[2] < shape[0]


def image(space: gym.Space) -> Image | None:
    """The shape of the images that the observations are; None where they are no images."""
    space = unmasked(space)
    return space.image if isinstance(space, ImageBox) else None


def may_be_pictures(space: gym.Space) -> bool:
    """Whether these numbers look like pictures: bytes, 36 or more along two of two or three axes."""
    space = unmasked(space)
    plain = isinstance(space, spaces.Box) and space.dtype == np.uint8 and image(space) is None
    return plain and len(space.shape or ()) in (2, 3) and sorted(space.shape or ())[-2] >= 36


def observation_dtype(space: gym.Space, dtype: torch.dtype) -> torch.dtype:
    """The type in which observations are stored: bytes for images, ``dtype`` for everything else."""
    return torch.uint8 if image(space) else dtype
