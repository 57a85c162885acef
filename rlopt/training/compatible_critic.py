"""CompatibleEstimator: gives a compatible critic the data of a rollout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlopt.core.compatible.critic import CompatibleCritic, Estimate, Experience, state_features
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.core.update import Update
from rlopt.rollout.buffer import Rollout


@dataclass(frozen=True)
class CompatibleEstimator:
    """Lets a compatible critic learn from rollouts."""

    critic: CompatibleCritic
    network: Network  # whose last hidden layer may be features of the state
    gamma: float

    @torch.no_grad()
    def estimate(
        self, update: Update, theta: Tensor, critic_theta: Tensor, batch: Rollout, rewards: Tensor, samples: Samples
    ) -> Estimate:
        """The critic's estimate from a rollout of the policy with theta (P,).

        ``rewards`` [T, E] are scaled; ``samples`` are the actor's, of the same rollout. Raises NumericalFailure where
        the critic's equations have no solution.
        """
        T, E = rewards.shape
        device = samples.weight.device
        inputs = self.network.select(torch.cat([batch.inputs.flatten(0, 1), batch.final])).to(device)
        phi = state_features(self.critic.degrees, self.network, critic_theta, inputs)
        count = (T + 1) * E
        following = batch.next_values(phi[:count].view(T + 1, E, -1), phi[count:])
        following = following * (~batch.terminated.to(device))[..., None].to(phi.dtype)
        experience = Experience(
            tape=update.network.tape(theta, samples.inputs),
            head=update.head,
            samples=samples,
            rewards=rewards.to(device),
            done=batch.done.to(device),
            features=phi[: T * E],
            following=following.flatten(0, 1),
        )
        return self.critic.estimate(experience, self.gamma)
