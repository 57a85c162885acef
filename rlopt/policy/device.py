"""DevicePolicy: a frozen policy that acts on the device where its parameters are, on all environments at once."""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.policy.normalisers import ObservationNormaliser


class DevicePolicy:
    """A policy whose theta and normaliser do not change while it acts. `inference.FrozenPolicy` is the host's."""

    def __init__(
        self, network: Network, head: Head, normaliser: ObservationNormaliser, theta: Tensor, normaliser_state: State
    ):
        self.network, self.theta = network, theta
        self.width = head.network_outputs + head.constants  # O, outputs of the policy
        self.clip = normaliser.limit
        found = normaliser.shift_and_scale(normaliser_state, theta.dtype)
        self.shift_and_scale = None if found is None else (found[0].to(theta.device), found[1].to(theta.device))

    def normalise(self, observations: Tensor, out: Tensor) -> Tensor:
        """Raw observations (..., D), of any type -> normalised, written to ``out``."""
        out.copy_(observations)
        if self.shift_and_scale is None:
            return out
        shift, scale = self.shift_and_scale
        return out.sub_(shift).mul_(scale).clamp_(-self.clip, self.clip)

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> Tensor:
        """Normalised observations (B, D) -> z (B, O), without the values of a network that has them too."""
        return self.network.outputs(self.theta, self.network.select(inputs))[:, -self.width :]
