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
from rlopt.core.parts import State
from rlopt.parallel.collectives import all_sum, local_slice

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

    Raises FloatingPointError on all of them, naming ``what``, when the data are not all finite or their squares
    overflow; the state is then unchanged.
    """
    shifted = data.to(torch.float64) - state["mean"]
    sums = all_sum(torch.stack([torch.ones_like(shifted).sum(0), shifted.sum(0), (shifted**2).sum(0)]))
    if not sums.isfinite().all():
        raise FloatingPointError(f"{what} is not finite")
    n, first, second = sums
    count = state["count"] + n.reshape(-1)[0]
    shift = first / count
    spread = state["variance"] * state["count"] + second - count * shift**2
    return {"count": count, "mean": state["mean"] + shift, "variance": (spread / count).clamp(min=0)}


@dataclass(frozen=True)
class ObservationNormaliser:
    """(o - mean) / std, clipped at ``clip`` standard deviations; the identity until the first merge.

    ``indicators`` are left as they are: a category that is rare or has never been seen has a standard deviation near 0,
    and would be blown up when it comes.
    """

    enabled: bool
    clip: float
    indicators: tuple[int, ...] = ()  # places, within the D numbers of an observation, of one-hots and bits

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    def init(self, size: int) -> State:
        return empty_moments((size,)) if self.enabled else {}

    def affine(self, state: State, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """(shift, scale), each (D,), with normalised = clip((o - shift) * scale); None for the identity."""
        if not self.enabled or state["count"] == 0:
            return None
        shift, scale = state["mean"].to(dtype, copy=True), (state["variance"] + _EPSILON).rsqrt().to(dtype)
        shift[list(self.indicators)], scale[list(self.indicators)] = 0, 1
        return shift, scale

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
        """``num_envs`` counts the environments of all ranks: each keeps the running returns of all of them."""
        return {**empty_moments(()), "returns": torch.zeros(num_envs, dtype=torch.float64)} if self.enabled else {}

    def apply(self, state: State, rewards: Tensor) -> Tensor:
        """Scaled rewards [T, E]; unchanged until the first merge."""
        if not self.enabled or state["count"] == 0:
            return rewards
        scale = (state["variance"] + _EPSILON).rsqrt().to(rewards.dtype)
        return (rewards * scale).clamp_(-self.clip, self.clip)

    def begun(self, state: State, environments: list[int]) -> State:
        """State when these, by their numbers over all ranks, have begun new episodes."""
        if not self.enabled or not environments:
            return state
        returns = state["returns"].clone()
        returns[environments] = 0
        return {**state, "returns": returns}

    def merge(self, state: State, rewards: Tensor, done: Tensor, gamma: float, mask: Tensor | None = None) -> State:
        """State after raw rewards [T, E] of this rank's environments, where ``done`` [T, E] ends an episode.

        Only those of ``mask`` (bool) count, by default all.
        """
        if not self.enabled:
            return state
        mine = local_slice(len(state["returns"]))
        running = state["returns"][mine.start : mine.stop].numpy().copy()
        r, keep = rewards.double().numpy(), gamma * (1 - done.double().numpy())
        returns = np.empty_like(r)
        for t in range(len(r)):  # in numpy: these arrays are small, and there are T of them
            running += r[t]
            returns[t] = running
            running *= keep[t]
        kept = returns if mask is None else returns[mask.numpy()]
        new = merge_moments(state, torch.from_numpy(kept).reshape(-1), "a reward")
        everyone = torch.zeros_like(state["returns"])
        everyone[mine.start : mine.stop] = torch.from_numpy(running)
        return {**new, "returns": all_sum(everyone)}
