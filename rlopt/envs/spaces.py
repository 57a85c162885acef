"""From Gymnasium spaces to heads and back: what the policy sees, and what reaches the environment.

| observations                         | what the network is given                                                   |
|---|---|
| Box                                  | its numbers, flat                                                           |
| Box of bytes in 2 or 3 dimensions    | an image: bytes, flat, for policy=nature_cnn                                |
| Discrete, MultiDiscrete, MultiBinary | one-hots and bits, which no normaliser touches                              |
| Dict, Tuple                          | their parts one after another, as gymnasium.spaces.flatten has them         |

Policy actions for a Box live in [-1, 1] and are mapped affinely to finite bounds; a half-infinite bound only clips.
Log-probabilities are those of the action as drawn: clipping and squashing happen at the environment's door. What is no
number does not pass it, since some simulators end the whole process: a NaN becomes the lower bound, or 0 without one.
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
from rlopt.errors import UserError
from rlopt.policy.nature_cnn import Image

PolicyHead = Categorical | MultiCategorical | Bernoulli | DiagonalGaussian
_PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


@dataclass(frozen=True)
class Gaussian:
    """The choices a Gaussian policy leaves open; see heads.DiagonalGaussian."""

    scale: str
    initial_sigma: float
    squash: bool


def flatten_observations(env: gym.Env) -> gym.Env:
    """``env`` with observations of a Box, flattened where they were none. Raises UserError where they cannot be."""
    space = env.observation_space
    if isinstance(space, spaces.Box):
        return env
    parts = list(_leaves(space)) or [space]
    others = [part for part in parts if not isinstance(part, _PLAIN)]
    if others:
        other = others[0]
        within = "" if other is space else f" (within {type(space).__name__})"
        raise UserError(
            f"observations of {type(other).__name__}{within} are not served; rlopt serves Box, Discrete, "
            "MultiDiscrete, MultiBinary, and Dict and Tuple of these. Leave the others out by "
            "gymnasium.wrappers.FilterObservation or TransformObservation, and register the result under its own id"
        )
    return FlattenObservation(env)


def _leaves(space: gym.Space) -> Iterator[gym.Space]:
    """The parts of a space that have none themselves, in the order in which they are flattened."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        yield space
        return
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
        yield from _leaves(part)


def indicators(env: gym.Env) -> tuple[int, ...]:
    """Which numbers of a flattened observation are part of a one-hot, or bits."""
    if not isinstance(env, FlattenObservation):
        return ()
    leaves = _leaves(env.env.observation_space)
    whole = [np.full(spaces.flatdim(leaf), not isinstance(leaf, spaces.Box)) for leaf in leaves]
    return tuple(np.flatnonzero(np.concatenate(whole)).tolist())


def described(space: gym.Space) -> str:
    """A space in one line, without the bounds of every number."""
    return f"Box{space.shape} of {space.dtype}" if isinstance(space, spaces.Box) else " ".join(str(space).split())


def observation_size(space: gym.Space) -> int:
    """D, the length of a flattened observation of a Box."""
    assert isinstance(space, spaces.Box)
    return int(np.prod(space.shape))


def image(space: gym.Space) -> Image | None:
    """What kind of image the observations are; None where they are none."""
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        return Image.of(space.shape)
    return None


def observation_dtype(space: gym.Space, dtype: torch.dtype) -> torch.dtype:
    """What observations are stored in: images as bytes, all else as ``dtype``."""
    return torch.uint8 if image(space) else dtype


def head_for(space: gym.Space, gaussian: Gaussian) -> PolicyHead:
    """The distribution over this action space."""
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(tuple(space.nvec.reshape(-1).tolist()))
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(int(np.prod(space.shape)))
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise UserError(
            f"actions of {described(space)} are not served; rlopt serves Discrete, MultiDiscrete, MultiBinary and Box "
            "of floating-point numbers. Whole numbers are a MultiDiscrete: gymnasium.wrappers.TransformAction makes one"
        )
    if gaussian.squash and not np.isfinite([space.low, space.high]).all():
        raise UserError(
            f"policy.squash=true needs finite bounds, and those of the actions, {described(space)}, are not; "
            "type policy.squash=false"
        )
    return DiagonalGaussian(
        size=int(np.prod(space.shape)),
        scale=gaussian.scale,  # type: ignore[arg-type]  # checked by the head
        initial_sigma=gaussian.initial_sigma,
        squash=gaussian.squash,
    )


def to_bounds(space: spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    """(scale, shift), (A,) each, with an action of [-1, 1] at scale a + shift; 1 and 0 where a bound is infinite."""
    low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
    finite = np.isfinite(low) & np.isfinite(high)
    low, high = np.where(finite, low, -1), np.where(finite, high, 1)
    return (high - low) / 2, (high + low) / 2


class ActionTransform:
    """Policy actions (E, ...) -> what the environments' step takes."""

    def __init__(self, space: gym.Space, squash: bool):
        self._shape: tuple[int, ...] = space.shape or ()
        self._dtype, self._squash = space.dtype, squash
        self._whole = not isinstance(space, spaces.Box)
        if not isinstance(space, spaces.Box):
            self._start = np.asarray(getattr(space, "start", 0))
            self._plain = isinstance(space, spaces.Discrete) and not self._start
            return
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)  # of the space's type: no detour
        self._scale, self._shift = to_bounds(space)
        self._plain = bool(np.all(self._scale == 1) and np.all(self._shift == 0))
        self._bounded = bool(np.isfinite([self._low, self._high]).all())

    def __call__(self, actions: Tensor | np.ndarray) -> np.ndarray:
        a = np.asarray(actions)
        if self._whole:
            return a if self._plain else (a.reshape(len(a), *self._shape) + self._start).astype(self._dtype)
        if self._squash:
            a = np.tanh(a)
        if not self._plain:
            a = a * self._scale + self._shift
        a = np.fmin(np.fmax(a, self._low), self._high)  # of a number and a NaN they take the number
        if not self._bounded:
            a = np.where(np.isfinite(a), a, 0)
        return a.astype(self._dtype, copy=False).reshape(len(a), *self._shape)
