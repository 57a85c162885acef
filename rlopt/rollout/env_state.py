"""The state of every environment between two rollouts, from which another process can continue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlopt.envs.replay import LONGEST, Origin, extend_check
from rlopt.rollout.buffer import Buffer


@dataclass(frozen=True)
class EnvState:
    """The state of one environment. `EpisodeHistory` adds ``actions``."""

    number: int  # among all environments of the run
    observation: np.ndarray  # (D,) raw; the next action will be for it
    time: int  # steps since its episode began
    episode: int  # identifier
    over: bool  # True: the episode has ended, and the next step will only reset
    steps: int  # since the run began
    noise: dict[str, Any]  # state of the generator of its action noise, of correlated noise before its block
    origin: Origin | None  # of its episode; None where it cannot be replayed
    actions: np.ndarray | None = None  # (time, ...) of the episode so far, as drawn
    check: int | None = None  # of the episode's observations and rewards, see envs.replay.extend_check
    saved: dict[str, Any] | None = None  # what the environment itself saved, see envs.replay.save
    memory: np.ndarray | None = None  # (M,) the policy's, before it meets the observation; None without one
    noise_used: int | None = None  # steps used of the block of correlated noise; None: of independent noise

    def plain(self) -> dict[str, Any]:
        """The entries of a checkpoint, with tensors in the place of arrays."""
        found: dict[str, Any] = with_tensors(vars(self))
        return found

    @classmethod
    def of(cls, plain: dict[str, Any]) -> EnvState:
        """From the entries of a checkpoint."""
        return cls(**with_arrays(plain))


def with_tensors(node: Any) -> Any:
    """A copy of a tree, with tensors in the place of arrays."""
    return _each_leaf(node, lambda x: torch.from_numpy(x) if isinstance(x, np.ndarray) else x)


def with_arrays(node: Any) -> Any:
    """A copy of a tree, with arrays in the place of tensors."""
    return _each_leaf(node, lambda x: x.numpy() if isinstance(x, Tensor) else x)


def _each_leaf(node: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a tree, each of its leaves changed."""
    if isinstance(node, dict):
        return {key: _each_leaf(inner, change) for key, inner in node.items()}
    return [_each_leaf(inner, change) for inner in node] if isinstance(node, list | tuple) else change(node)


@dataclass(frozen=True)
class EpisodeHistory:
    """The states of a process's environments after a rollout, and the actions of their running episodes. Immutable.

    It holds the rollouts that the longest running episode needs, at most twice as many steps as that, and none where
    ``keeps_actions`` is false.
    """

    keeps_actions: bool  # False: no episode can be replayed
    states: Sequence[EnvState] = ()  # without their actions
    actions: tuple[Tensor, ...] = ()  # of rollouts, [T, E, ...] each, oldest first
    checks: tuple[int, ...] = ()  # of the running episodes, one for each environment

    def after(self, rollout: Buffer, states: Sequence[EnvState]) -> EpisodeHistory:
        """The history after a rollout, which ended in these states."""
        if not self.keeps_actions:
            return replace(self, states=states)
        chunks = [*self.actions, rollout["actions"].clone()]
        while len(chunks) > 1 and len(chunks[-2]) <= len(chunks[-1]):  # so that there are never many
            chunks[-2:] = [torch.cat(chunks[-2:])]
        longest = max((s.time for s in states if s.time <= LONGEST and s.origin is not None), default=0)
        while len(chunks) > 1 and sum(map(len, chunks[1:])) >= longest:
            del chunks[0]
        checks = self._extend_checks(rollout, states)
        states = [replace(state, check=check) for state, check in zip(states, checks, strict=True)]
        return replace(self, states=states, actions=tuple(chunks), checks=checks)

    def _extend_checks(self, rollout: Buffer, states: Sequence[EnvState]) -> tuple[int, ...]:
        """The checks of the running episodes, with what the rollout has of them."""
        observations, rewards = rollout["observations"].numpy(), rollout["rewards"].numpy()
        found, length = [], len(rewards)
        for e, (state, before) in enumerate(zip(states, self.checks or [0] * len(states), strict=True)):
            start = max(length - state.time, 0)
            begun = before if state.time > length else 0
            found.append(extend_check(begun, observations[start:, e], rewards[start:, e]))
        return tuple(found)

    def restored(self, states: Sequence[EnvState | None]) -> EpisodeHistory:
        """The history that holds the actions of these states."""
        checks = tuple((s.check if s is not None else None) or 0 for s in states)
        known = [s.actions for s in states if s is not None and s.actions is not None]
        if not known or not self.keeps_actions:
            return replace(self, checks=checks) if self.keeps_actions else self
        rows = max(map(len, known))
        past = np.zeros((rows, len(states), *known[0].shape[1:]), known[0].dtype)
        for e, state in enumerate(states):
            if state is not None and state.actions is not None and len(state.actions):
                past[-len(state.actions) :, e] = state.actions
        return replace(self, actions=(torch.from_numpy(past),), checks=checks)

    def entries(self, returns: Tensor, lengths: Tensor) -> list[dict[str, Any]]:
        """What a checkpoint holds of them: one entry for each environment.

        ``returns`` and ``lengths`` (E,) are those of the running episodes so far.
        """
        sums = zip(self.complete(), returns.tolist(), lengths.tolist(), strict=True)
        return [{**state.plain(), "return": total, "length": length} for state, total, length in sums]

    def complete(self) -> list[EnvState]:
        """The states, each with the actions of its episode so far.

        Where these were not kept the state has no origin either, and its episode cannot be replayed.
        """
        found = []
        for e, state in enumerate(self.states):
            steps, column = state.time, [chunk[:, e] for chunk in self.actions]
            if state.origin is None or steps > LONGEST or not column or sum(map(len, column)) < steps:
                found.append(replace(state, origin=None, actions=None))
            else:
                actions = torch.cat(column)[-steps:] if steps else column[0][:0]
                found.append(replace(state, actions=actions.numpy()))
        return found
