"""TensorEnvs: what environments that are tensors do. Leading axes are E, the environments; all is on one device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeGuard

import gymnasium as gym
import torch
from torch import Tensor


class Stepped(NamedTuple):
    """What a step gives. An environment whose episode has ended begins the next one in the same step."""

    observation: Tensor  # (E, ...) to act on next: where an episode has ended, the first one of the next episode
    reward: Tensor  # (E,)
    terminated: Tensor  # (E,) bool: nothing comes after this state
    truncated: Tensor  # (E,) bool: the episode was cut off, such as by a time limit
    last: Tensor  # (E, ...) what the step led to: where an episode has ended, its last observation


class TensorEnvs(Protocol):
    """E environments that are stepped together.

    Neither `reset` nor `step` may wait for the device: no ``.item()``, no ``if`` on a tensor, no copy to the host.
    Environments without the two methods of `SavedEnvs` begin new episodes when a run is resumed. A method ``check()``,
    where there is one, is called after every rollout: it may wait for the device, and raises UserError where the
    simulator failed.
    """

    num_envs: int
    device: torch.device
    observation_space: gym.Space  # of one environment, a Box
    action_space: gym.Space  # of one environment

    def reset(self, seed: int, first: int = 0) -> Tensor:
        """Begin an episode in every environment; observations (E, ...).

        Environment i has the number ``first`` + i in the run, and should draw what depends on this number and the seed
        alone: then ranks change nothing.
        """

    def step(self, actions: Tensor) -> Stepped:
        """One step with actions (E, ...): whole numbers (E,) for Discrete, numbers within the bounds for a Box."""

    def close(self) -> None:
        """Free what the environments hold."""


class SavedEnvs(TensorEnvs, Protocol):
    """Environments whose state a checkpoint can hold."""

    def state(self) -> Mapping[str, Tensor]:
        """Tensors (E, ...) by name, with all that the environments need to go on to the bit."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave, after `reset` with the same seed."""


class FunctionalEnvs(TensorEnvs, Protocol):
    """Environments whose step is also a function without side effects, which a CUDA graph can hold."""

    running: tuple[Tensor, ...]  # (E, ...) what a step takes over from the one before

    def draw(self, steps: int) -> tuple[Tensor, ...]:
        """The random numbers (T, E, ...) of the next ``steps`` steps, which later draws go on from."""

    def advance(
        self, running: Sequence[Tensor], actions: Tensor, drawn: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], Stepped]:
        """One step of ``running``, with one row of `draw`: what is running now, and what the step gave."""


def functional(envs: TensorEnvs) -> TypeGuard[FunctionalEnvs]:
    """Whether a step is also a function: the environments have ``running``, ``draw`` and ``advance``."""
    return all(hasattr(envs, name) for name in ("running", "draw", "advance"))


def saves(envs: TensorEnvs) -> TypeGuard[SavedEnvs]:
    """Whether a checkpoint can hold the environments' state: they have ``state()`` and ``restore(state)``."""
    return all(callable(getattr(envs, name, None)) for name in ("state", "restore"))
