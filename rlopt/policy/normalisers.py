"""Running moments, and the two that use them: the observation normaliser and the reward scaler.

Both are functional in their state, and neither depends on the unit: observations and rewards times any number are
normalised to the same numbers, up to rounding.

The observation normaliser stays as it is while a rollout is collected and while the actor learns from it, and takes in
the rollout afterwards. So the policy that collected a rollout gives its log-probabilities again. The first rollout is
the exception, since nothing is known before it: its policy sees zeros. The networks learn from it with its own mean and
standard deviation, as if the policy had seen it so. That hardly changes what the policy was: with the weights that
conf/policy/mlp.yaml gives, the KL between the two is below .001 nats on CartPole, Pendulum and HalfCheetah.

Nothing acts on rewards, so the reward scaler takes in a rollout before it scales it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlopt.core.checks import LARGEST, positive
from rlopt.core.parts import State
from rlopt.parallel.collectives import all_sum, all_sums, local_slice

# A standard deviation is at least these shares of the root mean square: of the number itself, where it is rounding, and
# of the largest number in the observation, whose rounding may have come into it.
_OWN_ROUNDING = float(torch.finfo(torch.float32).eps)
_LARGEST_ROUNDING = 1e-8


def empty_moments(shape: tuple[int, ...]) -> State:
    """Moments without data: mean 0 and variance 1 until the first merge."""
    return {
        "count": torch.zeros((), dtype=torch.float64),
        "mean": torch.zeros(shape, dtype=torch.float64),
        "variance": torch.ones(shape, dtype=torch.float64),
    }


def merge_moments(state: State, data: Tensor, what: str) -> State:
    """Moments after data (N, ...) of this rank and those of all others (Chan, Golub and LeVeque 1979).

    The data may be on another device than the moments.
    Raises FloatingPointError, which names ``what``, on all ranks where any data are not finite or their squares
    overflow.
    """
    data, home = data.to(torch.float64), state["mean"].device
    n, total = all_sums(data.new_tensor(len(data)), data.sum(0))
    spread = all_sum(((data - total / n) ** 2).sum(0))
    n, total, spread = n.to(home), total.to(home), spread.to(home)
    mean = total / n
    if not (total.isfinite() & spread.isfinite()).all():
        raise FloatingPointError(f"{what} is not finite")
    before, count = state["count"], state["count"] + n
    apart = mean - state["mean"]
    spread = state["variance"] * before + spread + apart**2 * (before * n / count)
    return {"count": count, "mean": state["mean"] + apart * n / count, "variance": spread / count}


def inverse_std(state: State) -> Tensor:
    """1 / standard deviation, in float64; 1 where all that was seen is 0."""
    square = state["variance"] + state["mean"] ** 2
    floor = _OWN_ROUNDING**2 * square
    if square.numel():
        floor = floor + _LARGEST_ROUNDING**2 * square.max()
    variance = torch.where(square > 0, state["variance"] + floor, 1)
    return variance.rsqrt()


@dataclass(frozen=True)
class ObservationNormaliser:
    """(o - mean) / std, clipped at ``clip`` standard deviations; 0 until the first merge.

    It leaves ``indicators`` unchanged: a category that is rare has a standard deviation near 0, which would make it a
    huge number when it comes. Pixels are divided by their largest value, enabled or not.
    """

    enabled: bool
    clip: float
    indicators: tuple[int, ...] = ()  # indices, within the D numbers of an observation, of one-hots and bits
    pixels: tuple[tuple[slice, float], ...] = ()  # where images of bytes are within these, and their largest values
    size: int = 0  # D, for pixels alone

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    @property
    def limit(self) -> float:
        """The largest absolute value of a normalised number."""
        return LARGEST if self.pixels and not self.enabled else self.clip

    def init(self, size: int) -> State:
        """State before the first merge, for observations of ``size`` numbers."""
        return empty_moments((size,)) if self.enabled else {}

    def shift_and_scale(self, state: State, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """(D,) each, with normalised = clip((o - shift) * scale); None where nothing is to be normalised."""
        if not self.enabled and not self.pixels:
            return None
        if self.enabled:
            scale = torch.zeros_like(state["mean"]) if self.is_new(state) else inverse_std(state)
            shift, scale = state["mean"].to(dtype, copy=True), scale.to(dtype)
        else:
            shift, scale = torch.zeros(self.size, dtype=dtype), torch.ones(self.size, dtype=dtype)
        shift[list(self.indicators)], scale[list(self.indicators)] = 0, 1
        for at, largest in self.pixels:
            shift[at], scale[at] = 0, 1 / largest
        return shift, scale

    def is_new(self, state: State) -> bool:
        """True before the first merge."""
        return self.enabled and bool(state["count"] == 0)

    def apply(self, state: State, observations: Tensor) -> Tensor:
        """Normalised observations (..., D), a new tensor."""
        found = self.shift_and_scale(state, observations.dtype)
        if found is None:
            return observations.clone()
        shift, scale = found
        return observations.sub(shift).mul_(scale).clamp_(-self.limit, self.limit)

    def merge(self, state: State, observations: Tensor) -> State:
        """State after raw observations (N, D). Raises FloatingPointError, as `merge_moments`."""
        if not self.enabled:
            return state
        if not self.pixels:
            return merge_moments(state, observations, "an observation")
        others = torch.ones(observations.shape[1], dtype=torch.bool)
        for at, _ in self.pixels:  # they are many, and their moments are of no use
            others[at] = False
        moments = {name: state[name][others] for name in ("mean", "variance")}
        found = merge_moments({"count": state["count"], **moments}, observations[:, others], "an observation")
        return {name: x if name == "count" else state[name].masked_scatter(others, x) for name, x in found.items()}


@dataclass(frozen=True)
class RewardScaler:
    """r / std of the running discounted return, clipped at ``clip``, not centred (Engstrom et al. 2020).

    With ``sign``, r is the sign of the reward (Mnih et al. 2015).
    """

    enabled: bool
    clip: float
    sign: bool = False

    def __post_init__(self) -> None:
        positive("clip", self.clip)

    def init(self, num_envs: int) -> State:
        """State before the first merge. ``num_envs`` counts all ranks' environments: every rank keeps all returns."""
        return {**empty_moments(()), "returns": torch.zeros(num_envs, dtype=torch.float64)} if self.enabled else {}

    def apply(self, state: State, rewards: Tensor) -> Tensor:
        """Scaled rewards [T, E], by a state that these rewards have been merged into."""
        rewards = rewards.sign() if self.sign else rewards
        if not self.enabled:
            return rewards
        return (rewards * inverse_std(state)).to(rewards.dtype).clamp_(-self.clip, self.clip)

    def begun(self, state: State, environments: list[int]) -> State:
        """State after these environments, numbered over all ranks, have begun new episodes."""
        if not self.enabled or not environments:
            return state
        returns = state["returns"].clone()
        returns[environments] = 0
        return {**state, "returns": returns}

    def merge(self, state: State, rewards: Tensor, done: Tensor, gamma: float, mask: Tensor | None = None) -> State:
        """State after raw rewards [T, E] of this rank's environments; ``done`` [T, E] marks the ends of episodes.

        Only the rewards and returns of ``mask`` [T, E] (bool) count, by default all. Raises FloatingPointError, as
        `merge_moments`.
        """
        if not self.enabled:
            return state
        rewards = rewards.sign() if self.sign else rewards
        mine = local_slice(len(state["returns"]))
        before = state["returns"][mine.start : mine.stop].to(rewards.device, copy=True)
        given, going = (rewards if mask is None else rewards * mask).double(), gamma * (1 - done.double())
        found = torch.empty_like(given)
        # in numpy on the host: these arrays are small, and there are T of them
        parts = (before, given, going, found)
        arrays: list[Any] = [x.numpy() if x.is_cpu else x for x in parts]
        running, r, keep, returns = arrays
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found below
            for t in range(len(r)):
                running += r[t]
                returns[t] = running
                running *= keep[t]
        kept = found if mask is None else found[mask]
        moments = merge_moments(state, kept.reshape(-1), "a reward")
        of_all = torch.zeros_like(state["returns"])
        of_all[mine.start : mine.stop] = before.to(of_all.device)
        return {**moments, "returns": all_sum(of_all)}
