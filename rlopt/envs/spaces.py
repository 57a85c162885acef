"""Action spaces: which head actions need, and how they are sent.

Policy actions for a Box lie in [-1, 1] and are mapped linearly to finite bounds; a bound on one side only clips. Bounds
beyond +-10^6 stand for none: many environments write the largest number there. Log-probabilities are those of the drawn
action: clipping and squashing come after it, in ActionTransform. A Box of whole numbers has a category for each value.

An action of a Dict or a Tuple is stored as one row (A,), the numbers of its parts one after another (heads.Product);
MixedTransform makes of it what the environment takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.heads import (
    GSDE,
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    FullGaussian,
    MultiCategorical,
    Product,
)
from rlopt.core.heads.full_gaussian import MOST
from rlopt.core.requirements import Requirements
from rlopt.envs.observations import describe_space, leaves_of
from rlopt.errors import UserError

PolicyHead = Categorical | MultiCategorical | Bernoulli | DiagonalGaussian | Beta | FullGaussian | GSDE | Product
_LARGEST_BOUND = 1e6  # of an action; larger ones count as infinite
_MOST_VALUES = 256  # of a whole number in a Box: each is a category


def mask_counts(actions: gym.Space) -> tuple[int, ...] | None:
    """How many actions each category has; None where actions can have no mask."""
    if isinstance(actions, spaces.Discrete):
        return (int(actions.n),)
    return tuple(actions.nvec.reshape(-1).tolist()) if isinstance(actions, spaces.MultiDiscrete) else None


def has_mask_key(observations: Any, actions: gym.Space) -> bool:
    """Whether observations are of Dict({"observation", "action_mask"}), and actions of a kind that can be masked."""
    keys = set(observations.spaces) if isinstance(observations, spaces.Dict) else set()
    return keys == {"observation", "action_mask"} and mask_counts(actions) is not None


@dataclass(frozen=True)
class HeadOptions:
    """The distribution over actions that are a Box of floating-point numbers."""

    head: Literal["gaussian", "beta", "full_gaussian", "gsde"]
    scale: Literal["log_sigma", "sigma", "network", "network_softplus"]  # of a diagonal Gaussian
    initial_sigma: float
    squash: bool  # of a diagonal Gaussian
    noise_features: int  # of gSDE
    noise_hold: int | None  # of gSDE, steps of an environment; None: a rollout

    def __post_init__(self) -> None:
        at_least_one("noise_features", self.noise_features)
        if self.noise_hold is not None:
            at_least_one("noise_hold", self.noise_hold)
        check(not self.squash or self.head == "gaussian", "squash", f"false with head={self.head}", self.squash)

    @property
    def requirements(self) -> Requirements:
        of_gaussian, of_gsde = ("scale", "squash"), ("noise_features", "noise_hold")
        idle = (() if self.head == "gaussian" else of_gaussian) + (() if self.head == "gsde" else of_gsde)
        return Requirements(unread=dict.fromkeys(idle, "head"))


def head_for(space: gym.Space, options: HeadOptions) -> PolicyHead:
    """The distribution over this action space. Raises UserError for spaces rlopt cannot use."""
    leaves = list(leaves_of(space))
    if not leaves or (leaves == [space] and 0 in (space.shape or ())):
        raise UserError(f"the actions, of {describe_space(space)}, hold no number; give at least one")
    if leaves != [space]:
        if options.head == "gsde":
            raise UserError("policy.head=gsde is for a Box alone, and not for its parts; type policy.head=gaussian")
        return Product(tuple(head_for(leaf, options) for leaf in leaves))
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(tuple(space.nvec.reshape(-1).tolist()))
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(int(np.prod(space.shape)))
    if is_discretised(space):
        return MultiCategorical(_value_counts(space))
    if not is_continuous(space):
        raise UserError(
            f"actions of {describe_space(space)} are not served; rlopt serves Discrete, MultiDiscrete, MultiBinary, "
            "Box, and Dict and Tuple of these. gymnasium.wrappers.TransformAction makes one of another space"
        )
    return _continuous_head(space, options)


def _continuous_head(space: gym.Space, options: HeadOptions) -> DiagonalGaussian | Beta | FullGaussian | GSDE:
    """The distribution over a Box of floating-point numbers. Raises UserError where it does not fit the space."""
    assert isinstance(space, spaces.Box)
    size, needs, instead = int(np.prod(space.shape)), "policy.squash=true", "policy.squash=false"
    if options.head == "beta":
        needs, instead = "policy.head=beta", "policy.head=gaussian"
    if (options.squash or options.head == "beta") and not _is_bounded(space).all():
        raise UserError(
            f"{needs} needs finite bounds; those of the actions, {describe_space(space)}, are infinite, or "
            f"beyond {_LARGEST_BOUND:,.0f}; type {instead}"
        )
    if options.head == "full_gaussian" and size > MOST:
        raise UserError(
            f"policy.head=full_gaussian is for at most {MOST} numbers; the actions are {describe_space(space)}; "
            "type policy.head=gaussian"
        )
    if options.head == "beta":
        return Beta(size, options.initial_sigma)
    if options.head == "full_gaussian":
        return FullGaussian(size, options.initial_sigma)
    if options.head == "gsde":
        return GSDE(size, options.noise_features, options.noise_hold, options.initial_sigma)
    scale, by_network = options.scale, options.scale.startswith("network")
    return DiagonalGaussian(
        size=size,
        scale={"network": "log_sigma", "network_softplus": "softplus"}.get(scale, scale),  # type: ignore[arg-type]
        initial_sigma=options.initial_sigma,
        squash=options.squash,
        per_state=by_network,
    )


def is_continuous(space: gym.Space) -> bool:
    """Whether actions of ``space``, or of a part of it, are a Box of floating-point numbers."""
    return any(isinstance(leaf, spaces.Box) and np.issubdtype(leaf.dtype, np.floating) for leaf in leaves_of(space))


def is_discretised(space: gym.Space) -> bool:
    """Whether actions of ``space``, or of a part of it, are a Box of whole numbers, which are drawn as categories."""
    return any(isinstance(leaf, spaces.Box) and np.issubdtype(leaf.dtype, np.integer) for leaf in leaves_of(space))


def _value_counts(space: gym.Space) -> tuple[int, ...]:
    """How many values each whole number of a Box has. Raises UserError where these are too many for categories."""
    assert isinstance(space, spaces.Box)
    bounds = zip(space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist(), strict=True)
    counts = tuple(high - low + 1 for low, high in bounds)
    if max(counts) > _MOST_VALUES:
        raise UserError(
            f"actions of {describe_space(space)} have numbers of {max(counts):,} values; whole numbers are drawn as "
            f"categories, of at most {_MOST_VALUES} values each. Give the environment a Box of floating-point numbers "
            "by gymnasium.wrappers.TransformAction, with numpy.rint in it, or a MultiDiscrete of fewer values"
        )
    return counts


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
        self._discrete = not isinstance(space, spaces.Box) or is_discretised(space)
        if not isinstance(space, spaces.Box) or is_discretised(space):
            self._start = first_values(space)
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

    stacked = __call__


class MixedTransform:
    """Converts rows (E, A) of policy actions into what an environment with a Dict or a Tuple of actions takes.

    A call gives one action for each environment. `stacked` gives all of them in one Dict or Tuple of arrays (E, ...),
    as Gymnasium's vector environments have them.
    """

    def __init__(self, space: gym.Space, squash: bool):
        self._space, leaves = space, list(leaves_of(space))
        self._transforms = [ActionTransform(leaf, squash) for leaf in leaves]
        self._kinds = [(isinstance(leaf, spaces.Discrete), is_continuous(leaf)) for leaf in leaves]
        self._ends = np.cumsum([int(np.prod(leaf.shape or ())) for leaf in leaves])[:-1]

    def __call__(self, actions: Tensor | np.ndarray) -> list[Any]:
        rows = zip(*map(_each, self._columns(actions)), strict=True)
        return [structured(self._space, iter(row)) for row in rows]

    def stacked(self, actions: Tensor | np.ndarray) -> Any:
        return structured(self._space, iter(self._columns(actions)))

    def _columns(self, actions: Tensor | np.ndarray) -> list[np.ndarray]:
        """The actions (E, ...) of every part without parts of its own."""
        found = []
        parts = np.split(np.asarray(actions), self._ends, 1)
        for transform, part, (single, continuous) in zip(self._transforms, parts, self._kinds, strict=True):
            own = part if continuous else part.astype(np.int64)
            found.append(transform(own[:, 0] if single else own))
        return found


def action_transform(space: gym.Space, squash: bool) -> ActionTransform | MixedTransform:
    """What brings policy actions to an environment with this action space."""
    kind = MixedTransform if isinstance(space, spaces.Dict | spaces.Tuple) else ActionTransform
    return kind(space, squash)


def _each(actions: np.ndarray) -> list[Any]:
    """The actions (E, ...) of one part, each by itself: numbers where it is Discrete, arrays where it is a Box."""
    return [actions[e, ...] for e in range(len(actions))] if actions.dtype.kind == "f" else list(actions)


def structured(space: gym.Space, leaves: Iterator[Any]) -> Any:
    """A Dict's or a Tuple's parts in its own form, from those of its `leaves_of`, in their order."""
    if isinstance(space, spaces.Dict):
        return {name: structured(part, leaves) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(structured(part, leaves) for part in space.spaces)
    return next(leaves)


def first_values(space: gym.Space) -> np.ndarray:
    """What the category 0 of a space stands for: of each number the lowest one, or 0 where all begin there."""
    return space.low.astype(np.int64) if isinstance(space, spaces.Box) else np.asarray(getattr(space, "start", 0))
