"""Tally: what a rollout brought, here or on all ranks together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rlopt.parallel.collectives import gather
from rlopt.rollout.buffer import Batch, Episodes


@dataclass(frozen=True)
class RolloutStats:
    steps: int  # environment transitions
    reward: float  # raw, summed over them
    episodes: Episodes  # that ended, in the order of their ends

    @classmethod
    def of(cls, batch: Batch, episodes: Episodes) -> RolloutStats:
        """That of all ranks' batches, the same on every rank."""
        counts = gather((batch.steps, float((batch.rewards * batch.mask).sum())))
        return cls(sum(steps for steps, _ in counts), sum(reward for _, reward in counts), together(episodes))

    @property
    def scalars(self) -> dict[str, float]:
        found = {"rollout/reward": self.reward / self.steps if self.steps else math.nan}
        if self.episodes.returns:
            found["episode/return"] = float(np.mean(self.episodes.returns))
            found["episode/length"] = float(np.mean(self.episodes.lengths))
        return found


def together(here: Episodes) -> Episodes:
    """All ranks' episodes in the order of their ends, at the same step in that of their environments."""
    rows = [row for e in gather(here) for row in zip(e.ends, e.returns, e.lengths, strict=True)]
    found = Episodes([], [], [])
    for end, total, length in sorted(rows, key=lambda row: row[0]):  # stable: environments keep their order
        found.ends.append(end)
        found.returns.append(total)
        found.lengths.append(length)
    return found
