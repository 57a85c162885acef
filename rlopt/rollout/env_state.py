"""Standing: where each environment stands between two rollouts, so that another process can go on from there."""

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
    """One environment's, in arrays, which go between processes as they are. ``actions`` are added by `EnvStates`."""

    number: int  # of all environments of the run
    observation: np.ndarray  # (D,) raw, which the next action will be for
    time: int  # steps since its episode began
    episode: int
    over: bool  # ended, and to be reset by its next step
    steps: int  # since the run began
    noise: dict[str, Any]  # state of its generator of action noise
    origin: Origin | None  # what its episode began from; None where it cannot be replayed
    actions: np.ndarray | None = None  # (time, ...) of the episode so far, as drawn

    def plain(self) -> dict[str, Any]:
        """As a checkpoint holds it."""
        actions = None if self.actions is None else torch.from_numpy(self.actions)
        return {**vars(self), "observation": torch.from_numpy(self.observation), "actions": actions}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> EnvState:
        actions = None if plain["actions"] is None else plain["actions"].numpy()
        return cls(**{**plain, "observation": plain["observation"].numpy(), "actions": actions})


@dataclass(frozen=True)
class EnvStates:
    """All environments of a process between two rollouts, and the actions of the last ones. Never changes."""

    standings: Sequence[EnvState]
    actions: tuple[Tensor, ...]  # of rollouts, [T, E, ...] each, oldest first

    def complete(self) -> list[EnvState]:
        """The standings, with the actions of their episodes; an episode of which these are not kept has no origin."""
        found = []
        for e, standing in enumerate(self.standings):
            steps, column = standing.time, [chunk[:, e] for chunk in self.actions]
            if standing.origin is None or not column or sum(map(len, column)) < steps:
                found.append(replace(standing, origin=None, actions=None))
            else:
                actions = torch.cat(column)[-steps:] if steps else column[0][:0]
                found.append(replace(standing, actions=actions.numpy()))
        return found


class EpisodeHistory:
    """Keeps the actions of the episodes that are running, over as many rollouts as the longest of them has seen."""

    def __init__(self, keeps: bool):
        self._keeps = keeps  # False: nothing can be replayed
        self._actions: tuple[Tensor, ...] = ()

    def after(self, actions: Tensor, standings: Sequence[EnvState]) -> EnvStates:
        """The boundary at the end of a rollout with these actions [T, E, ...]."""
        if self._keeps:
            chunks = [*self._actions, actions.clone()]
            longest = max((s.time for s in standings if s.time <= LONGEST and s.origin is not None), default=0)
            while len(chunks) > 1 and sum(map(len, chunks[1:])) >= longest:
                del chunks[0]
            self._actions = tuple(chunks)
        return EnvStates(standings, self._actions)

    def restore(self, standings: Sequence[EnvState | None]) -> None:
        """Take up the episodes that these hold."""
        known = [s.actions for s in standings if s is not None and s.actions is not None]
        if not known or not self._keeps:
            return
        rows = max(map(len, known))
        past = np.zeros((rows, len(standings), *known[0].shape[1:]), known[0].dtype)
        for e, standing in enumerate(standings):
            if standing is not None and standing.actions is not None and len(standing.actions):
                past[-len(standing.actions) :, e] = standing.actions
        self._actions = (torch.from_numpy(past),)
