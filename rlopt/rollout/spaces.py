"""From Gymnasium spaces to heads and back: what the policy sees, and what reaches the environment.

Policy actions for a Box live in [-1, 1] and are mapped affinely to finite bounds; a half-infinite bound only clips.
Log-probabilities are those of the action as drawn: clipping and squashing happen at the environment's door.
"""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import Tensor

from rlopt.core.heads import Categorical, DiagonalGaussian
from rlopt.errors import UserError

PolicyHead = Categorical | DiagonalGaussian


@dataclass(frozen=True)
class Gaussian:
    """The choices a Gaussian policy leaves open; see heads.DiagonalGaussian."""

    scale: str
    initial_sigma: float
    squash: bool


def observation_size(space: gym.Space) -> int:
    """D, the length of a flattened observation."""
    if isinstance(space, spaces.Box):
        return int(np.prod(space.shape))
    raise UserError(
        f"observations of {type(space).__name__} are not served; rlopt serves Box. "
        "Wrap the environment (gymnasium.wrappers.FlattenObservation) and register it under an id of its own"
    )


def head_for(space: gym.Space, gaussian: Gaussian) -> PolicyHead:
    """The distribution over this action space."""
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return DiagonalGaussian(
            size=int(np.prod(space.shape)),
            scale=gaussian.scale,  # type: ignore[arg-type]  # checked by the head
            initial_sigma=gaussian.initial_sigma,
            squash=gaussian.squash,
        )
    raise UserError(f"actions of {space} are not served; rlopt serves Discrete and Box of floating-point numbers")


class ActionDoor:
    """Policy actions (E, ...) -> what the environments' step takes."""

    def __init__(self, space: gym.Space, squash: bool):
        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self._start = int(space.start)
            return
        assert isinstance(space, spaces.Box)
        self._shape, self._dtype, self._squash = space.shape, space.dtype, squash
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)  # of the space's type: no detour
        finite = np.isfinite(low) & np.isfinite(high)
        self._scale = np.where(finite, (np.where(finite, high, 1) - np.where(finite, low, -1)) / 2, 1.0)
        self._shift = np.where(finite, (np.where(finite, high, 1) + np.where(finite, low, -1)) / 2, 0.0)
        self._plain = bool(np.all(self._scale == 1) and np.all(self._shift == 0))

    def __call__(self, actions: Tensor) -> np.ndarray:
        a = actions.numpy()
        if self.discrete:
            return a + self._start if self._start else a
        if self._squash:
            a = np.tanh(a)
        if not self._plain:
            a = a * self._scale + self._shift
        return (
            np.minimum(np.maximum(a, self._low), self._high)
            .astype(self._dtype, copy=False)
            .reshape(len(a), *self._shape)
        )
