"""Action spaces and images: which head actions need, how they are sent, and how a network sees bytes as pixels.

Policy actions for a Box lie in [-1, 1] and are mapped linearly to finite bounds; a bound on one side only clips. Bounds
beyond +-10^6 stand for none: many environments write the largest number there. Log-probabilities are those of the drawn
action: clipping and squashing come after it, in ActionTransform.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlopt.core.heads import Bernoulli, Categorical, DiagonalGaussian, MultiCategorical
from rlopt.envs.observations import describe_space, leaves_of
from rlopt.errors import UserError

PolicyHead = Categorical | MultiCategorical | Bernoulli | DiagonalGaussian
_LARGEST_BOUND = 1e6  # of an action; larger ones count as infinite


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


@dataclass(frozen=True)
class Gaussian:
    """The options of a Gaussian policy; see heads.DiagonalGaussian."""

    scale: str
    initial_sigma: float
    squash: bool


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
    """Whether a part of an observation can be an image or several: bytes in 2, 3 or 4 dimensions."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3, 4)


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
    return space.image if isinstance(space, ImageBox) else None


def may_be_pictures(space: gym.Space) -> bool:
    """Whether these numbers look like pictures: bytes, 36 or more along two of two or three axes."""
    plain = isinstance(space, spaces.Box) and space.dtype == np.uint8 and image(space) is None
    return plain and len(space.shape or ()) in (2, 3) and sorted(space.shape or ())[-2] >= 36


def observation_dtype(space: gym.Space, dtype: torch.dtype) -> torch.dtype:
    """The type in which observations are stored: bytes for images, ``dtype`` for everything else."""
    return torch.uint8 if image(space) else dtype


def head_for(space: gym.Space, gaussian: Gaussian) -> PolicyHead:
    """The distribution over this action space. Raises UserError for spaces rlopt cannot use."""
    if not isinstance(space, spaces.Dict | spaces.Tuple) and 0 in (space.shape or ()):
        raise UserError(f"the actions, of {describe_space(space)}, hold no number; give at least one")
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(tuple(space.nvec.reshape(-1).tolist()))
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(int(np.prod(space.shape)))
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UserError(
            f"actions of {describe_space(space)} are not served; rlopt serves Discrete, MultiDiscrete, MultiBinary and "
            "Box of floating-point numbers. Whole numbers are a MultiDiscrete: gymnasium.wrappers.TransformAction "
            "makes one"
        )
    if gaussian.squash and not _is_bounded(space).all():
        raise UserError(
            f"policy.squash=true needs finite bounds; those of the actions, {describe_space(space)}, are infinite, or "
            f"beyond {_LARGEST_BOUND:,.0f}; type policy.squash=false"
        )
    return DiagonalGaussian(
        size=int(np.prod(space.shape)),
        scale=gaussian.scale,  # type: ignore[arg-type]  # checked by the head
        initial_sigma=gaussian.initial_sigma,
        squash=gaussian.squash,
    )


def _is_bounded(space: spaces.Box) -> np.ndarray:
    """(A,) bool: the action has two bounds, neither of them beyond +-10^6."""
    bounds = np.abs(np.stack([space.low.reshape(-1), space.high.reshape(-1)]).astype(np.float64))
    return np.asarray((bounds <= _LARGEST_BOUND).all(0))


def scale_and_shift(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift), (A,) each: an action a of [-1, 1] becomes scale a + shift; 1 and 0 where a bound is no bound."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    finite = _is_bounded(space)
    low, high = np.where(finite, low, -1), np.where(finite, high, 1)
    return (high - low) / 2, (high + low) / 2


class ActionTransform:
    """Converts policy actions (E, ...) into what an environment's step takes: scaled, squashed or clipped, and typed.

    Some simulators end the whole process when an action is no number. So NaN becomes the lower bound, or 0 where there
    is none.
    """

    def __init__(self, space: gym.Space, squash: bool):
        self._shape: tuple[int, ...] = space.shape or ()
        self._dtype, self._squash = space.dtype, squash
        self._discrete = not isinstance(space, spaces.Box)
        if not isinstance(space, spaces.Box):
            self._start = np.asarray(getattr(space, "start", 0))
            self._unchanged = isinstance(space, spaces.Discrete) and not self._start
            return
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)  # in the space's own type
        self._scale, self._shift = scale_and_shift(space)
        self._unscaled = bool(np.all(self._scale == 1) and np.all(self._shift == 0))
        self._bounded = bool(np.isfinite([self._low, self._high]).all())

    def __call__(self, actions: Tensor | np.ndarray) -> np.ndarray:
        a = np.asarray(actions)
        if self._discrete:
            return a if self._unchanged else (a.reshape(len(a), *self._shape) + self._start).astype(self._dtype)
        if self._squash:
            a = np.tanh(a)
        if not self._unscaled:
            a = a * self._scale + self._shift
        a = np.fmin(np.fmax(a, self._low), self._high)  # of a number and NaN both take the number
        if not self._bounded:
            a = np.where(np.isfinite(a), a, 0)
        return a.astype(self._dtype, copy=False).reshape(len(a), *self._shape)
