"""Running moments, and what they are for: normalised observations and scaled rewards.

Both are functional. They are frozen while a rollout is collected and while the actor learns from it, and take in the
rollout afterwards, so that the log-probabilities stored with a batch are those that its own policy gives again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rlopt.core.checks import positive
from rlopt.core.distributed import all_sum
from rlopt.core.parts import State

_EPSILON = 1e-8  # added to variances


def empty_moments(shape: tuple[int, ...]) -> State:
    """Moments of no data: mean 0 and variance 1 until something is merged."""
    return {
        "count": torch.zeros((), dtype=torch.float64),
        "mean": torch.zeros(shape, dtype=torch.float64),
        "variance": torch.ones(shape, dtype=torch.float64),
    }


def merge_moments(state: State, data: Tensor, what: str) -> State:
    """Moments after taking in data (N, ...) from all ranks (Chan, Golub and LeVeque 1979).

    Raises FloatingPointError, naming ``what``, when the data are not all finite; the state is then unchanged.
    """
    if not data.sum().isfinite() and not data.isfinite().all():
        raise FloatingPointError(f"{what} is not finite")
    shifted = data.to(torch.float64) - state["mean"]
    sums = torch.stack([torch.ones_like(shifted).sum(0), shifted.sum(0), (shifted**2).sum(0)])
    n, first, second = all_sum(sums)
    count = state["count"] + n.reshape(-1)[0]
    shift = first / count
    spread = state["variance"] * state["count"] + second - count * shift**2
    return {"count": count, "mean": state["mean"] + shift, "variance": (spread / count).clamp(min=0)}


@dataclass(frozen=True)
class ObservationNormaliser:
    """(o - mean) / std, clipped at ``clip`` standard deviations; the identity until the first merge."""

    enabled: bool
    clip: float

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    def init(self, size: int) -> State:
        return empty_moments((size,)) if self.enabled else {}

    def affine(self, state: State, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """(shift, scale), each (D,), with normalised = clip((o - shift) * scale); None for the identity."""
        if not self.enabled or state["count"] == 0:
            return None
        return state["mean"].to(dtype), (state["variance"] + _EPSILON).rsqrt().to(dtype)

    def apply(self, state: State, observations: Tensor) -> Tensor:
        """Normalised observations (..., D), a new tensor."""
        affine = self.affine(state, observations.dtype)
        if affine is None:
            return observations.clone()
        return observations.sub(affine[0]).mul_(affine[1]).clamp_(-self.clip, self.clip)

    def merge(self, state: State, observations: Tensor) -> State:
        """State after observations (N, D)."""
        return merge_moments(state, observations, "an observation") if self.enabled else state


@dataclass(frozen=True)
class RewardScaler:
    """r / std of the running discounted return, clipped at ``clip``, not centred (Engstrom et al. 2020)."""

    enabled: bool
    clip: float

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    def init(self, num_envs: int) -> State:
        return {**empty_moments(()), "returns": torch.zeros(num_envs, dtype=torch.float64)} if self.enabled else {}

    def apply(self, state: State, rewards: Tensor) -> Tensor:
        """Scaled rewards [T, E]; unchanged until the first merge."""
        if not self.enabled or state["count"] == 0:
            return rewards
        scale = (state["variance"] + _EPSILON).rsqrt().to(rewards.dtype)
        return (rewards * scale).clamp_(-self.clip, self.clip)

    def merge(self, state: State, rewards: Tensor, done: Tensor, gamma: float) -> State:
        """State after raw rewards [T, E], where ``done`` [T, E] ends an episode."""
        if not self.enabled:
            return state
        running = state["returns"].numpy().copy()
        r, keep = rewards.double().numpy(), gamma * (1 - done.double().numpy())
        returns = np.empty_like(r)
        for t in range(len(r)):  # in numpy: these arrays are small, and there are T of them
            running += r[t]
            returns[t] = running
            running *= keep[t]
        new = merge_moments(state, torch.from_numpy(returns).reshape(-1), "a reward")
        return {**new, "returns": torch.from_numpy(running)}
