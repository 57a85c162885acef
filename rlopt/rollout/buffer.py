"""Batch: one rollout [T, E, ...], and the flat samples (B = T E) that actor and critic learn from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rlopt.core.heads import Head, Joint
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class Batch:
    """T steps of E environments, on the host. Observations stay normalised as the acting policy saw them."""

    inputs: Tensor  # [T + 1, E, D] normalised observations; the last row starts the next rollout
    observations: Tensor  # [T, E, D] raw, for the normaliser
    actions: Tensor  # [T, E, ...] as drawn
    outputs: Tensor  # [T, E, O] of the acting policy
    rewards: Tensor  # [T, E] raw
    terminated: Tensor  # [T, E] bool
    truncated: Tensor  # [T, E] bool
    time: Tensor  # [T, E] steps since the start of the episode
    episode: Tensor  # [T, E] episode identifier
    mask: Tensor  # [T, E] 1 where the transition happened, 0 where a backend only reset
    final: Tensor  # (N, D) normalised last observations of truncated episodes
    final_place: tuple[Tensor, Tensor]  # their t and e, (N,) each
    # its environments are those from number ``first`` on of the run's ``total``; None: all there are
    first: int = 0
    total: int | None = None

    @cached_property
    def done(self) -> Tensor:
        return self.terminated | self.truncated

    @property
    def steps(self) -> int:
        """Environment transitions in the batch."""
        return int(self.mask.sum())

    @property
    def visited(self) -> Tensor:
        """(N, D) raw observations that were acted on."""
        happened = self.mask.flatten() > 0
        observations = self.observations.flatten(0, 1)
        return observations if happened.all() else observations[happened]

    @property
    def course(self) -> dict[str, Tensor]:
        """[T, E, ...] by name what one transition makes after another."""
        return {
            "observation": self.observations,
            "policy output": self.outputs,
            "action": self.actions,
            "reward": self.rewards,
        }

    @property
    def last(self) -> Tensor:
        """(E + N, D) normalised observations that values are bootstrapped from."""
        return torch.cat([self.inputs[-1], self.final])

    @property
    def index(self) -> Tensor | None:
        """(B,) each transition's number in the rollout of all environments; None where these are all of them."""
        steps, count = self.rewards.shape
        if self.total in (None, count):
            return None
        return (torch.arange(steps)[:, None] * self.total + self.first + torch.arange(count)).flatten()

    def weight(self, gamma: float | None) -> Tensor:
        """(B,) the mask, times gamma^time where states are weighted by their discount."""
        weight = self.mask if gamma is None else self.mask * gamma ** self.time.to(self.mask.dtype)
        return weight.reshape(-1)

    def next_values(self, values: Tensor, final_values: Tensor) -> Tensor:
        """[T, E] value of the state each transition led to, from V at ``inputs`` [T + 1, E] and at ``final`` (N,)."""
        following = values[1:].clone()
        following[self.final_place] = final_values
        return following

    def actor_samples(self, head: Head, advantages: Tensor, weight: Tensor) -> Samples:
        """What the policy learns from; advantages and weight (B,)."""
        outputs, actions = self.outputs.flatten(0, 1), self.actions.flatten(0, 1)
        return Samples(
            inputs=self.inputs[:-1].flatten(0, 1),
            actions=actions,
            weight=weight,
            advantages=advantages,
            old_outputs=outputs,
            old_log_prob=head.log_prob(outputs, actions),
            time=self.time.flatten(),
            episode=self.episode.flatten(),
            index=self.index,  # type: ignore[arg-type]
        )

    def joint_samples(
        self, head: Joint, advantages: Tensor, targets: Tensor, values: Tensor, weight: Tensor
    ) -> Samples:
        """What a network that is policy and value learns from; see the two others."""
        own = self.actor_samples(head.policy, advantages, weight)
        old = torch.cat([values[:, None], own.old_outputs], 1)
        return own.replacing(actions=head.pack(targets, own.actions), old_outputs=old)

    def critic_samples(self, targets: Tensor, values: Tensor, weight: Tensor) -> Samples:
        """What the critic learns from; targets, values before training and weight (B,)."""
        return Samples(
            inputs=self.inputs[:-1].flatten(0, 1),
            actions=targets[:, None],
            weight=weight,
            old_outputs=values[:, None],
            time=self.time.flatten(),
            episode=self.episode.flatten(),
            index=self.index,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Episodes:
    """Episodes that ended in a rollout."""

    returns: list[float]  # undiscounted sums of raw rewards
    lengths: list[int]  # transitions
    ends: list[int]  # the step of the rollout they ended at; the lists are in its order


class EpisodeTracker:
    """Sums rewards and lengths across rollouts, and tells which episodes ended."""

    def __init__(self, num_envs: int):
        self.returns = torch.zeros(num_envs, dtype=torch.float64)
        self.lengths = torch.zeros(num_envs, dtype=torch.int64)

    def take(self, batch: Batch) -> Episodes:
        """Episodes that ended in this batch, in the order of their ends."""
        found = Episodes([], [], [])
        ends = batch.done.any(1)
        rewards = (batch.rewards * batch.mask).to(torch.float64)
        steps = batch.mask.to(torch.int64)
        start = 0
        stops = ends.nonzero().flatten().tolist()
        for t in stops if ends[-1] else [*stops, len(rewards) - 1]:
            self.returns += rewards[start : t + 1].sum(0)
            self.lengths += steps[start : t + 1].sum(0)
            start = t + 1
            if ends[t]:
                over = batch.done[t]
                found.returns.extend(self.returns[over].tolist())
                found.lengths.extend(self.lengths[over].tolist())
                found.ends.extend([t] * int(over.sum()))
                self.returns[over] = 0
                self.lengths[over] = 0
        return found
