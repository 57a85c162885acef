"""Episodes that end in a rollout, and the statistics of a rollout over all ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from rlopt.parallel.collectives import gather
from rlopt.rollout.buffer import Rollout


@dataclass(frozen=True)
class Episodes:
    """Episodes that ended in a rollout, in the order of their ends."""

    returns: list[float]  # undiscounted sums of raw rewards
    lengths: list[int]  # transitions
    ends: list[int]  # step of the rollout
    environments: list[int]  # numbers, over the whole run


class EpisodeTracker:
    """Sums rewards and lengths of running episodes across rollouts."""

    def __init__(self, num_envs: int):
        self.returns = torch.zeros(num_envs, dtype=torch.float64)  # of the running episodes so far
        self.lengths = torch.zeros(num_envs, dtype=torch.int64)

    def take(self, rollout: Rollout) -> Episodes:
        """Add the rollout; the episodes that ended in it."""
        found = Episodes([], [], [], [])
        over, mask, rewards = rollout.done.cpu(), rollout.mask.cpu(), rollout.rewards.cpu()  # one copy of a rollout
        ends = over.any(1)
        rewards = (rewards * mask).to(torch.float64)
        steps = mask.to(torch.int64)
        start = 0
        stops = ends.nonzero().flatten().tolist()
        for t in stops if ends[-1] else [*stops, len(rewards) - 1]:
            self.returns += rewards[start : t + 1].sum(0)
            self.lengths += steps[start : t + 1].sum(0)
            start = t + 1
            if ends[t]:
                done = over[t]
                found.returns.extend(self.returns[done].tolist())
                found.lengths.extend(self.lengths[done].tolist())
                found.ends.extend([t] * int(done.sum()))
                found.environments.extend((done.nonzero().flatten() + rollout.first).tolist())
                self.returns[done] = 0
                self.lengths[done] = 0
        return found


@dataclass(frozen=True)
class RolloutStats:
    """Counts and sums over the rollouts of all ranks; the same on every rank."""

    steps: int  # transitions
    reward: float  # sum of raw rewards
    episodes: Episodes

    @classmethod
    def of(cls, rollout: Rollout, episodes: Episodes) -> RolloutStats:
        """From this rank's rollout and the episodes that ended in it. Every rank must call this."""
        counts = gather((rollout.steps, float((rollout.rewards * rollout.mask).sum())))
        steps, reward = sum(steps for steps, _ in counts), sum(reward for _, reward in counts)
        return cls(steps, reward, gather_episodes(episodes))

    @property
    def scalars(self) -> dict[str, float]:
        """Mean reward of a transition; where episodes ended their means, and the least and the greatest return."""
        found = {"rollout/reward": self.reward / self.steps if self.steps else math.nan}
        if self.episodes.returns:
            found["episode/return"] = float(np.mean(self.episodes.returns))
            found["episode/length"] = float(np.mean(self.episodes.lengths))
            found["episode/return_min"] = float(np.min(self.episodes.returns))
            found["episode/return_max"] = float(np.max(self.episodes.returns))
        return found


def gather_episodes(here: Episodes) -> Episodes:
    """All ranks' episodes in the order of their ends, and at the same step in the order of their environments."""
    rows = [row for e in gather(here) for row in zip(e.ends, e.returns, e.lengths, e.environments, strict=True)]
    rows.sort(key=lambda row: row[0])  # stable: environments keep their order
    ends, returns, lengths, environments = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 4
    return Episodes(returns, lengths, ends, environments)
