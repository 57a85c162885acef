"""SampleMaker: flat samples of every network, from rollouts with advantages, targets and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import lcm

import torch
from torch import Tensor

from rlopt.config.options import RunConfig
from rlopt.core.heads import Joint
from rlopt.core.parts import Scalars
from rlopt.core.samples import Samples
from rlopt.core.update import Update
from rlopt.envs.spaces import PolicyHead
from rlopt.rollout.buffer import Rollout
from rlopt.training.reuse import Past, Reuse
from rlopt.training.values import Values


@dataclass(frozen=True)
class SampleMaker:
    """Makes samples on ``device``. Where there is no ``critic``, the actor's have a Joint head."""

    config: RunConfig
    head: PolicyHead
    actor: Update
    critic: Update | None
    device: torch.device
    reuse: Reuse | None

    def samples(
        self,
        batch: Rollout,
        advantages: Tensor,
        targets: Tensor,
        values: Values,
        past: Sequence[Past] = (),
        now: Sequence[Values] | None = None,
    ) -> tuple[dict[str, Samples], Scalars]:
        """Samples by network, and scalars, from advantages and targets [T, E] and the values before training.

        Those of ``past`` batches are corrected by the values ``now``, or by those before training.
        """
        found = self._of_agents(self._of_batch(batch, advantages, targets, values))
        scalars: Scalars = {}
        by_batch = self.config.advantages.normalise == "batch"
        if past:
            assert self.reuse is not None
            parts = [found]
            for i, p in enumerate(past):
                assert p.values is not None
                corrected = self.reuse.advantages(p, now[i] if now else p.values)
                parts.append(self._of_batch(p.batch, *corrected, p.values))
            found, scalars = self.reuse.join(parts, past, by_batch)
        elif by_batch:
            found["actor"] = found["actor"].with_normalised_advantages()
        return {name: samples.to(self.device) for name, samples in found.items()}, scalars

    def flat(
        self, samples: dict[str, Samples], batch: Rollout, targets: Tensor, values: Values
    ) -> tuple[Tensor, Tensor]:
        """Targets and old values (B,) of all samples; those of ``batch`` are [T, E]."""
        of_values = samples["actor" if self.critic is None else "critic"]
        if len(of_values) == targets.numel():
            return batch.flat(targets), batch.flat(values.inputs[:-1])
        return of_values.actions[:, 0].contiguous(), of_values.old_outputs[:, 0].contiguous()

    def _of_agents(self, samples: dict[str, Samples]) -> dict[str, Samples]:
        """The samples without those of a game's absent agents, which would make minibatches of nothing.

        Networks with memory need whole sequences: theirs go where no agent was there in any step.
        """
        there = samples["actor"].weight > 0
        if not self.config.env.agents or there.all():
            return samples
        length = lcm(*(update.network.sequence for update in (self.actor, self.critic) if update is not None))
        kept = there.view(-1, length).any(1).repeat_interleave(length).nonzero().flatten()
        return {name: replace(own.take(kept), index=None) for name, own in samples.items()}  # type: ignore[arg-type]

    def _of_batch(self, batch: Rollout, advantages: Tensor, targets: Tensor, values: Values) -> dict[str, Samples]:
        """The samples of one batch, on the host, their advantages as they are."""
        advantages, targets, old_values = (batch.flat(x) for x in (advantages, targets, values.inputs[:-1]))
        weight = batch.weight(self.config.gamma if self.config.state_weighting == "discounted" else None)
        rows = batch.rows(self.actor.network, batch.memory)
        if self.critic is None:
            joint = self.actor.head
            assert isinstance(joint, Joint)
            return {"actor": batch.joint_samples(joint, advantages, targets, old_values, weight, rows)}
        of_critic = batch.rows(self.critic.network, values.memory)
        actor = batch.actor_samples(self.head, advantages, weight, rows)
        return {"actor": actor, "critic": batch.critic_samples(targets, old_values, weight, of_critic)}
