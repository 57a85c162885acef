"""Gymnasium's spaces: what the policy is given of an observation, which head its actions need, and how they are sent.

| observations                         | the network is given                                                        |
|---|---|
| Box                                  | its numbers, flat                                                           |
| Box of bytes in 2 or 3 dimensions    | an image: bytes, flat, for policy=nature_cnn                                |
| Discrete, MultiDiscrete, MultiBinary | one-hots and bits, which no normaliser changes                              |
| Dict, Tuple                          | their parts one after another, in the order of gymnasium.spaces.flatten     |

Policy actions for a Box lie in [-1, 1] and are mapped linearly to finite bounds; a bound on one side only clips.
Log-probabilities are those of the drawn action: clipping and squashing come after it, in ActionTransform.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from torch import Tensor

from rlopt.core.heads import Bernoulli, Categorical, DiagonalGaussian, MultiCategorical
from rlopt.envs.wrappers import CheckedEnv
from rlopt.errors import UserError

PolicyHead = Categorical | MultiCategorical | Bernoulli | DiagonalGaussian
_SUPPORTED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@dataclass(frozen=True)
class Image:
    """Shape of an observation of unsigned bytes; stored flat, (B, H W C) or (B, C H W)."""

    height: int  # pixels
    width: int
    channels: int
    channels_last: bool

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Image:
        """From (H, W), (H, W, C) or (C, H, W): the first axis holds channels where it is shorter than the last."""
        first, second, third = shape if len(shape) == 3 else (1, *shape)
        if first < third:
            return cls(second, third, first, channels_last=False)
        return cls(first, second, third, channels_last=True)

    def __str__(self) -> str:
        return f"{self.height} x {self.width} pixels, {self.channels} channel{'s' * (self.channels > 1)}"


@dataclass(frozen=True)
class Gaussian:
    """The options of a Gaussian policy; see heads.DiagonalGaussian."""

    scale: str
    initial_sigma: float
    squash: bool


def flatten_observations(env: gym.Env) -> gym.Env:
    """``env``, with its observations flattened unless they are a Box. Raises UserError for spaces rlopt cannot use."""
    space = env.observation_space
    if isinstance(space, spaces.Box):
        return env
    leaves = list(_leaves(space)) or [space]
    unsupported = next((leaf for leaf in leaves if not isinstance(leaf, _SUPPORTED)), None)
    if unsupported is not None:
        within = "" if unsupported is space else f" (within {type(space).__name__})"
        raise UserError(
            f"observations of {type(unsupported).__name__}{within} are not served; rlopt serves Box, Discrete, "
            "MultiDiscrete, MultiBinary, and Dict and Tuple of these. Leave the others out by "
            "gymnasium.wrappers.FilterObservation or TransformObservation, and register the result under its own id"
        )
    return FlattenObservation(env)


def _leaves(space: gym.Space) -> Iterator[gym.Space]:
    """The parts of a space that have no parts themselves, in the order in which they are flattened."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield space
        return
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
        yield from _leaves(part)


def indicators(env: gym.Env) -> tuple[int, ...]:
    """Indices within the flat observation of ``env`` of the numbers that belong to one-hots or bits."""
    env = env.env if isinstance(env, CheckedEnv) else env
    if not isinstance(env, FlattenObservation):
        return ()
    leaves = _leaves(env.env.observation_space)
    flags = [np.full(spaces.flatdim(leaf), not isinstance(leaf, spaces.Box)) for leaf in leaves]
    return tuple(np.flatnonzero(np.concatenate(flags)).tolist())


def describe_space(space: gym.Space) -> str:
    """A space in one line, without the bounds of every number."""
    return f"Box{space.shape} of {space.dtype}" if isinstance(space, spaces.Box) else " ".join(str(space).split())


def observation_size(space: gym.Space) -> int:
    """D, the length of a flat observation of a Box."""
    assert isinstance(space, spaces.Box)
    return int(np.prod(space.shape))


def image(space: gym.Space) -> Image | None:
    """The shape of the images that the observations are; None where they are no images."""
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        return Image.of(space.shape)
    return None


def observation_dtype(space: gym.Space, dtype: torch.dtype) -> torch.dtype:
    """The type in which observations are stored: bytes for images, ``dtype`` for everything else."""
    return torch.uint8 if image(space) else dtype


def head_for(space: gym.Space, gaussian: Gaussian) -> PolicyHead:
    """The distribution over this action space. Raises UserError for spaces rlopt cannot use."""
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
    if gaussian.squash and not np.isfinite([space.low, space.high]).all():
        raise UserError(
            f"policy.squash=true needs finite bounds; those of the actions, {describe_space(space)}, are infinite; "
            "type policy.squash=false"
        )
    return DiagonalGaussian(
        size=int(np.prod(space.shape)),
        scale=gaussian.scale,  # type: ignore[arg-type]  # checked by the head
        initial_sigma=gaussian.initial_sigma,
        squash=gaussian.squash,
    )


def scale_and_shift(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift), (A,) each: an action a of [-1, 1] becomes scale a + shift; 1 and 0 where a bound is infinite."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    finite = np.isfinite(low) & np.isfinite(high)
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
