"""Inference in fixed blocks: the policy is evaluated on BLOCK observations at a time, padded where there are fewer.

A matrix product's last bits depend on its number of rows. With the same rows in every call, and an environment always
in the same row of its block, it gets the same action from the same observation, whichever worker holds it and however
many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import torch
from torch import Tensor

from rlopt.core.flat import CONSTANTS
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.policy.normaliser import ObservationNormaliser

BLOCK = 8  # rows; 4, 8 and 16 give the same bits where this was measured, 1 and 2 do not
Affine = tuple[Tensor, Tensor]  # shift and scale, (D,) each


class Inference:
    """A policy frozen for a rollout: theta and normaliser do not change while it acts."""

    def __init__(
        self, network: Network, head: Head, normaliser: ObservationNormaliser, theta: Tensor, normaliser_state: State
    ):
        self.network, self.theta = network, theta
        self._rooms: list[tuple[Tensor, Sequence[Tensor]]] | None = None
        self._layers: list[tuple[Tensor, Tensor | None, Callable[[Tensor], Tensor] | None]] = []
        self.affine = normaliser.affine(normaliser_state, theta.dtype)  # None: the identity
        self.width = head.network_outputs + head.constants  # O, the policy's outputs
        self._clip = normaliser.clip
        self._bind()

    def at(self, theta: Tensor, affine: Affine | None) -> Inference:
        """The same policy with other parameters, which are read and not copied."""
        other = copy(self)
        other.theta, other.affine = theta, affine
        other._bind()
        return other

    def normalise(self, observations: Tensor, out: Tensor) -> Tensor:
        """(E, D) raw -> normalised, written to ``out``."""
        if self.affine is None:
            return out.copy_(observations)
        shift, scale = self.affine
        return torch.sub(observations, shift, out=out).mul_(scale).clamp_(-self._clip, self._clip)

    def outputs(self, inputs: Tensor, out: Tensor | None = None) -> Tensor:
        """(E, D) normalised -> z (E, O); the policy's outputs are the last ones of a network that also gives values.

        No autograd. Written to ``out`` where it is given; then E must be a multiple of BLOCK.
        """
        count = len(inputs)
        if short := -count % BLOCK:
            inputs = torch.cat([inputs, inputs.new_zeros(short, inputs.shape[1])])
        if out is None:
            out = self.theta.new_empty(len(inputs), self.width)
        if self.network.plan is None:
            for place, block in zip(out.split(BLOCK), inputs.split(BLOCK), strict=True):
                place.copy_(self.network.outputs(self.theta, block)[:, -self.width :])
        else:
            self._chain(inputs, out)
        return out[:count]

    def _chain(self, inputs: Tensor, out: Tensor) -> None:
        """A chain of Linear layers without a tape: each a product per block, and one activation."""
        rooms = self._workspace(inputs)
        h, blocks = inputs, inputs.split(BLOCK)
        for (weight, bias, activate_), (room, places) in zip(self._layers, rooms, strict=True):
            for block, place in zip(blocks, places, strict=True):
                if bias is None:
                    torch.mm(block, weight, out=place)
                else:
                    torch.addmm(bias, block, weight, out=place)
            h, blocks = activate_(room) if activate_ else room, places
        own = h[:, self._skipped :]
        if self._constants is None:
            out.copy_(own)
        else:
            torch.cat([own, self._constants.expand(len(own), -1)], 1, out=out)

    def _workspace(self, inputs: Tensor) -> list[tuple[Tensor, Sequence[Tensor]]]:
        """For every layer its outputs (E, J), and the blocks of them."""
        if self._rooms is None or len(self._rooms[0][0]) != len(inputs):
            with torch.inference_mode(False):  # for use in either mode
                rooms = [self.theta.new_empty(len(inputs), weight.shape[1]) for weight, _, _ in self._layers]
                self._rooms = [(room, room.split(BLOCK)) for room in rooms]
        return self._rooms

    def _bind(self) -> None:
        """Take views of theta."""
        self._rooms = None
        if self.network.plan is None:
            return
        views = self.network.layout.views(self.theta)
        self._layers = [
            (views[a.weight].t(), views[a.bias] if a.bias else None, a.activation and a.activation.apply_)
            for a in self.network.plan
        ]
        self._constants = views.get(CONSTANTS)
        outputs = self._layers[-1][0].shape[1] + (0 if self._constants is None else len(self._constants))
        self._skipped = outputs - self.width
