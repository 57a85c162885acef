"""Position: a run between two updates. All that it needs to go on to the bit, and what a checkpoint holds.

| entry                   | is                                                                                |
|---|---|
| agent                   | theta and every part's state of each network, averages, normalisers               |
| steps, updates, skipped | counters; bad_in_a_row is that of the failure policy                              |
| minibatches             | the generator that shuffles them                                                  |
| recent                  | returns of the last training episodes                                             |
| environments            | one entry each: where it stands (rollout/env_state.py), return and length so far   |
| seconds, wall_seconds   | spent: without start-up and evaluations, on everything (training/timer.py)             |
| best, score             | highest return of a periodic evaluation; what was measured of this policy         |
| config, versions        | what the run is, and what it ran on                                               |
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

from rlopt.core.parts import State
from rlopt.loggers import console
from rlopt.parallel.collectives import gather, local_slice, world_size
from rlopt.rollout.env_state import EnvState, EpisodeHistory

# whose bits a run's depend on
_PACKAGES = ("rlopt", "torch", "numpy", "gymnasium", "mujoco", "box2d", "box2d-py", "envpool")
_QUIET = 2.0  # seconds that a replay may take without a word


@dataclass(frozen=True)
class RunState:
    """Nothing in it changes afterwards: updates are functional in their state."""

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
    boundary: EpisodeHistory | None  # this rank's environments; None before the first rollout
    returns: Tensor  # (E,) of its running episodes so far
    lengths: Tensor  # (E,)

    def tree(self, config: Mapping[str, Any], together: bool) -> dict[str, Any]:
        """What a checkpoint holds. All ranks are asked for their environments where they are ``together`` in this."""
        plain = {name: value for name, value in vars(self).items() if name not in ("boundary", "returns", "lengths")}
        return {**plain, "environments": self._environments(together), "config": dict(config), "versions": versions()}

    def _environments(self, together: bool) -> list[dict[str, Any] | None] | None:
        here: list[dict[str, Any] | None] | None = None
        if self.boundary is not None:
            sums = zip(self.boundary.complete(), self.returns.tolist(), self.lengths.tolist(), strict=True)
            here = [{**standing.plain(), "return": total, "length": length} for standing, total, length in sums]
        if world_size() == 1:
            return here
        if together:
            parts = gather(here)
            return None if None in parts else [entry for part in parts for entry in part or []]
        if here is None:
            return None
        mine = local_slice(len(here) * world_size())  # of the others' nothing is known
        return [here[i - mine.start] if i in mine else None for i in range(len(here) * world_size())]


def standing(entry: dict[str, Any] | None) -> EnvState | None:
    """An environment's, from its entry."""
    return None if entry is None else EnvState.of({k: v for k, v in entry.items() if k not in ("return", "length")})


@contextmanager
def replaying(standings: Sequence[EnvState | None]) -> Iterator[None]:
    """Within, environments are put back where they stood; where that takes a while, what goes on is told."""
    count = sum(len(s.actions) for s in standings if s is not None and s.actions is not None)
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
    """What the bits of a run depend on besides its configuration."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    kind = torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else ""
    return {**found, "processor": f"{platform.machine()} {kind}".strip()}
