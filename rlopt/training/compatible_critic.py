"""What a compatible critic is given of a rollout, and what it gives the actor: advantages and a direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlopt.core.compatible.critic import CompatibleCritic, Estimate, Experience, state_features
from rlopt.core.network import Network
from rlopt.core.parts import COMPATIBLE
from rlopt.core.samples import Samples
from rlopt.core.solvers.compatible import with_direction
from rlopt.core.update import Update
from rlopt.rollout.buffer import Batch


@dataclass(frozen=True)
class Compatible:
    """A compatible critic, the network whose last hidden layer it may read, and the discount."""

    critic: CompatibleCritic
    network: Network
    gamma: float

    @torch.no_grad()
    def estimate(
        self, update: Update, theta: Tensor, critic_theta: Tensor, batch: Batch, rewards: Tensor, samples: Samples
    ) -> Estimate:
        """From the rollout of the policy at theta, with rewards [T, E] as scaled and the actor's samples of it."""
        T, E = rewards.shape
        device = samples.weight.device
        inputs = torch.cat([batch.inputs.flatten(0, 1), batch.final]).to(device)
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


def informed(network: dict[str, Any], update: Update, estimate: Estimate) -> dict[str, Any]:
    """The actor's theta and parts, its solver told the critic's direction if it is one that reads it."""
    if COMPATIBLE not in update.solver.needs:
        return network
    parts = network["parts"]
    return {**network, "parts": {**parts, "solver": with_direction(parts["solver"], estimate.natural)}}
