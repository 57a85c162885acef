"""Inference in fixed blocks: the policy is evaluated on BLOCK observations at a time, padded where there are fewer.

A matrix product's last bits depend on its number of rows. With the same rows in every call an environment gets the
same action from the same observation, whichever worker holds it and however many there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.policy.normaliser import ObservationNormaliser

BLOCK = 8  # rows; 4, 8 and 16 give the same bits where this was measured, 1 and 2 do not


class Inference:
    """A policy frozen for a rollout: theta and normaliser do not change while it acts."""

    def __init__(
        self, network: Network, head: Head, normaliser: ObservationNormaliser, theta: Tensor, normaliser_state: State
    ):
        self.network, self.head, self.theta = network, head, theta
        self._clip = normaliser.clip
        self._affine = normaliser.affine(normaliser_state, theta.dtype)

    def normalise(self, observations: Tensor, out: Tensor) -> Tensor:
        """(E, D) raw -> normalised, written to ``out``."""
        if self._affine is None:
            return out.copy_(observations)
        shift, scale = self._affine
        return torch.sub(observations, shift, out=out).mul_(scale).clamp_(-self._clip, self._clip)

    def outputs(self, inputs: Tensor) -> Tensor:
        """(E, D) normalised -> z (E, O)."""
        count = len(inputs)
        if count == BLOCK:
            return self.network.outputs(self.theta, inputs)
        short = -count % BLOCK
        if short:
            inputs = torch.cat([inputs, inputs.new_zeros(short, inputs.shape[1])])
        parts = [self.network.outputs(self.theta, block) for block in inputs.split(BLOCK)]
        return torch.cat(parts)[:count]
