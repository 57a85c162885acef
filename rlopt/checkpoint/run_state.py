"""The state of a run between two updates: all that a checkpoint holds, and all that the run needs to go on to the bit.

| entry                   | holds                                                                         |
|---|---|
| agent                   | theta and every part's state of each network, averages, normalisers           |
| steps, updates, skipped | counters of environment transitions, of updates, of skipped updates           |
| bad_in_a_row            | the failure policy's counter                                                  |
| minibatches             | the state of the generator that shuffles minibatches                          |
| recent                  | returns of the last training episodes                                         |
| environments            | for each environment its state (rollout/env_state.py), and return and length  |
|                         | of its running episode; of tensors for each rank (rollout/tensors.py)         |
| seconds, wall_seconds   | training without start-up and evaluations; everything (Timer, trainer.py)     |
| best                    | the highest return of a periodic evaluation                                   |
| score                   | the return measured for this policy                                           |
| config, versions        | the resolved configuration; the versions of packages and the processor        |
| ranks                   | how many ranks trained it                                                     |
| spaces                  | of observations and actions, as the environment has them (envs/space_trees.py) |
| changes                 | what callbacks have changed in the environments (envs/changes.py)             |
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from threading import Timer
from typing import Any

import torch
from torch import Tensor

import rlopt
from rlopt.core.parts import State
from rlopt.envs.replay import Change
from rlopt.loggers import console
from rlopt.parallel.collectives import gather, local_slice, world_size
from rlopt.rollout.env_state import EnvState, EpisodeHistory, with_tensors
from rlopt.rollout.tensors import TensorStates

# packages on whose versions a run's bits depend
_PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "box2d", "box2d-py", "envpool")
_QUIET = 2.0  # seconds that a replay may take before it is announced


@dataclass(frozen=True)
class RunState:
    """A run between two updates. None of its contents is changed later: updates are functional in their state."""

    agent: State
    steps: int
    updates: int
    skipped: int
    bad_in_a_row: int
    seconds: float
    wall_seconds: float
    best: float | None
    score: float | None
    minibatches: Tensor
    recent: list[float]
    env_states: EpisodeHistory | TensorStates | None  # this rank's environments; None before the first rollout
    returns: Tensor  # (E,) of this rank's running episodes so far
    lengths: Tensor  # (E,) in steps
    spaces: dict[str, Any] | None  # None where they cannot be saved
    changes: Sequence[Change]

    def tree(self, config: Mapping[str, Any], all_ranks: bool) -> dict[str, Any]:
        """What a checkpoint holds. Other ranks' environments are None unless ``all_ranks`` call this together."""
        plain = {name: value for name, value in vars(self).items() if name not in ("env_states", "returns", "lengths")}
        plain["changes"] = with_tensors(self.changes)
        about = {"config": dict(config), "versions": versions(), "ranks": world_size()}
        return {**plain, "environments": self._environments(all_ranks), **about}

    def _environments(self, all_ranks: bool) -> list[dict[str, Any] | None] | None:
        """One entry for each environment of the run, or each rank's tensors; None before the first rollout."""
        here: list[dict[str, Any]] | None = None
        if self.env_states is not None:
            here = self.env_states.entries(self.returns, self.lengths)
        if world_size() == 1:
            return list(here) if here is not None else None
        if all_ranks:
            parts = gather(here)
            return None if None in parts else [entry for part in parts for entry in part or []]
        if here is None:
            return None
        mine = local_slice(len(here) * world_size())
        return [here[i - mine.start] if i in mine else None for i in range(len(here) * world_size())]


def env_state(entry: dict[str, Any] | None) -> EnvState | None:
    """The state of an environment, from its entry in a checkpoint."""
    return None if entry is None else EnvState.of({k: v for k, v in entry.items() if k not in ("return", "length")})


@contextmanager
def announce_slow_replay(states: Sequence[EnvState | None]) -> Iterator[None]:
    """Around a replay of running episodes: say what takes so long if it is not done soon."""
    count = sum(len(s.actions) for s in states if s is not None and s.actions is not None)
    timer = Timer(_QUIET, console.info, (f"rlopt: replays {count:,} transitions of the episodes that were running",))
    timer.daemon = True
    if count:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def versions() -> dict[str, str]:
    """The versions that a run's bits depend on besides its configuration."""
    found = {"python": platform.python_version(), "rlopt": rlopt.__version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    kind = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else ""
    return {**found, "processor": f"{platform.machine()} {kind}".strip()}
