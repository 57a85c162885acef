"""Inference in fixed blocks: the policy is evaluated on BLOCK observations at a time, padded where there are fewer.

A matrix product's last bits depend on its number of rows. With the same rows in every call, and an environment always
in the same row of its block, it gets the same action from the same observation, whichever worker holds it and however
many there are.

Chains of small Linear layers run in numpy: between two steps of a simulator the processor's caches have forgotten
torch's operators (17-64-64-6 tanh on 8 rows after 8 steps of HalfCheetah: 115 microseconds with them, 22 without).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlopt.core.flat import CONSTANTS
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.policy.normalisers import ObservationNormaliser

BLOCK = 8  # rows; 4, 8 and 16 give the same bits where this was measured, 1 and 2 do not
Affine = tuple[Tensor, Tensor]  # shift and scale, (D,) each
# multiplications in a block's product, above which numpy's library would use threads of its own, and torch is no slower
_SMALL = 2**18
_ACTIVATIONS: dict[object, Callable[[np.ndarray], object]] = {  # s -> f(s) in place; torch's own where there is none
    torch.tanh_: lambda s: np.tanh(s, out=s),
    torch.relu_: lambda s: np.maximum(s, 0, out=s),
}


class _Layer(NamedTuple):
    weight: np.ndarray  # (I, J)
    bias: np.ndarray | None  # (J,)
    activate_: Callable[[np.ndarray], object] | None


class FrozenPolicy:
    """A policy frozen for a rollout: theta and normaliser do not change while it acts."""

    def __init__(
        self, network: Network, head: Head, normaliser: ObservationNormaliser, theta: Tensor, normaliser_state: State
    ):
        self.network, self.theta = network, theta
        self.affine = normaliser.affine(normaliser_state, theta.dtype)  # None: the identity
        self.width = head.network_outputs + head.constants  # O, the policy's outputs
        self.clip = normaliser.clip
        self._inputs: np.ndarray | None = None  # workspace, as are the rooms
        self._rooms: list[np.ndarray] | None = None
        self._layers: list[_Layer] = []
        self._bind()

    def at(self, theta: Tensor, affine: Affine | None) -> FrozenPolicy:
        """The same policy with other parameters."""
        other = copy(self)
        other.theta, other.affine = theta, affine
        other._bind()
        return other

    def normalise(self, observations: Tensor, out: Tensor) -> Tensor:
        """(..., D) raw -> normalised, written to ``out``."""
        if self.affine is None:
            return out.copy_(observations)
        shift, scale = self.affine
        return torch.sub(observations, shift, out=out).mul_(scale).clamp_(-self.clip, self.clip)

    def outputs(self, inputs: Tensor) -> Tensor:
        """(E, D) normalised -> z (E, O); the policy's outputs are the last ones of a network that also gives values."""
        count = len(inputs)
        rows = -(-count // BLOCK) * BLOCK
        padded = torch.cat([inputs, inputs.new_zeros(rows - count, inputs.shape[1])])
        out = self.theta.new_empty(rows, self.width)
        self._forward(padded.numpy(), out.numpy())
        return out[:count]

    def respond(self, raw: np.ndarray, out: np.ndarray) -> None:
        """(E, D) raw, E a multiple of BLOCK -> z (E, O), written to ``out``. The bits are those of the two above."""
        if self.affine is not None:
            if self._inputs is None or self._inputs.shape != raw.shape:
                self._inputs = np.empty_like(raw)
            x = self._inputs
            np.subtract(raw, self._shift, out=x)
            np.multiply(x, self._scale, out=x)
            np.maximum(x, -self.clip, out=x)
            raw = np.minimum(x, self.clip, out=x)
        self._forward(raw, out)

    def _forward(self, inputs: np.ndarray, out: np.ndarray) -> None:
        """(E, D) normalised, E a multiple of BLOCK -> z (E, O), written to ``out``."""
        if self.network.plan is None:
            blocks = zip(torch.from_numpy(out).split(BLOCK), torch.from_numpy(inputs).split(BLOCK), strict=True)
            for place, block in blocks:
                place.copy_(self.network.outputs(self.theta, block)[:, -self.width :])
            return
        h = inputs
        for layer, room in zip(self._layers, self._workspace(len(inputs)), strict=True):
            multiply = np.matmul if layer.weight.size * BLOCK <= _SMALL else _product
            for row in range(0, len(inputs), BLOCK):
                multiply(h[row : row + BLOCK], layer.weight, out=room[row : row + BLOCK])
            if layer.bias is not None:
                np.add(room, layer.bias, out=room)
            if layer.activate_:
                layer.activate_(room)
            h = room
        out[:, : h.shape[1] - self._skipped] = h[:, self._skipped :]
        if self._constants is not None:
            out[:, h.shape[1] - self._skipped :] = self._constants

    def _workspace(self, rows: int) -> list[np.ndarray]:
        """For every layer room for its outputs (E, J)."""
        if self._rooms is None or len(self._rooms[0]) != rows:
            self._rooms = [np.empty((rows, layer.weight.shape[1]), layer.weight.dtype) for layer in self._layers]
        return self._rooms

    def _bind(self) -> None:
        """Take the parameters over into numpy."""
        self._inputs = self._rooms = None
        self._shift, self._scale = (x.numpy() for x in self.affine or (torch.empty(0), torch.empty(0)))
        if self.network.plan is None:
            return
        views = {name: view.numpy() for name, view in self.network.layout.views(self.theta).items()}
        self._layers = [
            _Layer(
                np.ascontiguousarray(views[a.weight].T),
                views[a.bias] if a.bias else None,
                a.activation and (_ACTIVATIONS.get(a.activation.apply_) or _through_torch(a.activation.apply_)),
            )
            for a in self.network.plan
        ]
        self._constants = views.get(CONSTANTS)
        outputs = self._layers[-1].weight.shape[1] + (0 if self._constants is None else len(self._constants))
        self._skipped = outputs - self.width


def _product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    torch.mm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))


def _through_torch(apply_: Callable[[Tensor], Tensor]) -> Callable[[np.ndarray], object]:
    return lambda s: apply_(torch.from_numpy(s))
