"""The state of every environment between two rollouts, from which another process can continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlopt.envs.replay import LONGEST, Origin


@dataclass(frozen=True)
class EnvState:
    """The state of one environment. `EpisodeHistory` adds ``actions``."""

    number: int  # among all environments of the run
    observation: np.ndarray  # (D,) raw; the next action will be for it
    time: int  # steps since its episode began
    episode: int  # identifier
    over: bool  # True: the episode has ended, and the next step will only reset
    steps: int  # since the run began
    noise: dict[str, Any]  # state of the generator of its action noise
    origin: Origin | None  # of its episode; None where it cannot be replayed
    actions: np.ndarray | None = None  # (time, ...) of the episode so far, as drawn

    def plain(self) -> dict[str, Any]:
        """The entries of a checkpoint."""
        actions = None if self.actions is None else torch.from_numpy(self.actions)
        return {**vars(self), "observation": torch.from_numpy(self.observation), "actions": actions}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> EnvState:
        """From the entries of a checkpoint."""
        actions = None if plain["actions"] is None else plain["actions"].numpy()
        return cls(**{**plain, "observation": plain["observation"].numpy(), "actions": actions})


@dataclass(frozen=True)
class EpisodeHistory:
    """The states of a process's environments after a rollout, and the actions of their running episodes. Immutable.

    It holds the rollouts that the longest running episode needs, at most twice as many steps as that, and none where
    ``keeps_actions`` is false.
    """

    keeps_actions: bool  # False: no episode can be replayed
    states: Sequence[EnvState] = ()  # without their actions
    actions: tuple[Tensor, ...] = ()  # of one or several rollouts, [T, E, ...] each, oldest first

    def after(self, actions: Tensor, states: Sequence[EnvState]) -> EpisodeHistory:
        """The history after a rollout with these actions [T, E, ...], which ended in these states."""
        if not self.keeps_actions:
            return replace(self, states=states)
        chunks = [*self.actions, actions.clone()]
        longest = max((s.time for s in states if s.time <= LONGEST and s.origin is not None), default=0)
        while len(chunks) > 1 and sum(map(len, chunks[1:])) >= longest:
            del chunks[0]
        while len(chunks) > 1 and len(chunks[-2]) <= len(chunks[-1]):  # few chunks, however long an episode is
            chunks[-2:] = [torch.cat(chunks[-2:])]
        return replace(self, states=states, actions=tuple(chunks))

    def restored(self, states: Sequence[EnvState | None]) -> EpisodeHistory:
        """The history that holds the actions of these states."""
        known = [s.actions for s in states if s is not None and s.actions is not None]
        if not known or not self.keeps_actions:
            return self
        rows = max(map(len, known))
        past = np.zeros((rows, len(states), *known[0].shape[1:]), known[0].dtype)
        for e, state in enumerate(states):
            if state is not None and state.actions is not None and len(state.actions):
                past[-len(state.actions) :, e] = state.actions
        return replace(self, actions=(torch.from_numpy(past),))

    def complete(self) -> list[EnvState]:
        """The states with the actions of their episodes; without an origin where these were not kept."""
        found = []
        for e, state in enumerate(self.states):
            steps, column = state.time, [chunk[:, e] for chunk in self.actions]
            if state.origin is None or not column or sum(map(len, column)) < steps:
                found.append(replace(state, origin=None, actions=None))
            else:
                actions = torch.cat(column)[-steps:] if steps else column[0][:0]
                found.append(replace(state, actions=actions.numpy()))
        return found
