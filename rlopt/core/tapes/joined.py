"""JoinedTape: the records of one network at several thetas, each with its own samples, as one record of all samples.

Sample b belongs to record i(b), and dz_b / dtheta is its Jacobian at that record's theta. So J v is the J_i v one after
another, J^T u the sum of the J_i^T u_i, and each layer's inputs and signals stand one after another. There is no one
theta, and no one weight of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.tapes.tape import Layer, Tape


class JoinedTape:
    """Several tapes of one network as one tape, in the order given. Raises ValueError where it is asked for theta."""

    chain: ClassVar[bool] = False

    def __init__(self, tapes: Sequence[Tape]):
        self._tapes = list(tapes)
        first = self._tapes[0]
        self.layout, self.size, self.width = first.layout, first.size, first.width
        self.sequence = max(tape.sequence for tape in self._tapes)
        self.outputs = torch.cat([tape.outputs for tape in self._tapes])

    @property
    def counts(self) -> list[int]:
        """The samples of each tape."""
        return [len(tape.outputs) for tape in self._tapes]

    def jvp(self, v: Tensor) -> Tensor:
        return torch.cat([tape.jvp(v) for tape in self._tapes])

    def vjp(self, u: Tensor) -> Tensor:
        parts = zip(self._tapes, u.split(self.counts), strict=True)
        return torch.stack([tape.vjp(part) for tape, part in parts]).sum(0)

    def jvps(self, V: Tensor) -> Tensor:
        return torch.cat([tape.jvps(V) for tape in self._tapes], 1)

    def vjps(self, U: Tensor) -> Tensor:
        parts = zip(self._tapes, U.split(self.counts, 1), strict=True)
        return torch.stack([tape.vjps(part) for tape, part in parts]).sum(0)

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        parts = zip(self._tapes, u.split(self.counts), strict=True)
        return torch.stack([tape.hvp(part, v) for tape, part in parts]).sum(0)

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        sent = signals.split(self.counts, 1)
        fixed = [None] * len(sent) if constants is None else constants.split(self.counts, 1)
        records = [tape.layers(s, c) for tape, s, c in zip(self._tapes, sent, fixed, strict=True)]
        return [_joined(layers) for layers in zip(*records, strict=True)]

    def parts(self, rows: int) -> Iterator[tuple[slice, Tape]]:
        start = 0
        for tape, count in zip(self._tapes, self.counts, strict=True):
            for at, part in tape.parts(rows):
                first, last, _ = at.indices(count)
                yield slice(start + first, start + last), part
            start += count

    def take(self, index: Tensor) -> Tape:
        taken, start = [], 0
        for tape, count in zip(self._tapes, self.counts, strict=True):
            own = index[(index >= start) & (index < start + count)] - start
            taken += [tape.take(own)] if len(own) else []
            start += count
        return JoinedTape(taken or [self._tapes[0].take(index)])

    def theta(self) -> Tensor:
        raise ValueError("several records have no one theta")

    def at(self, theta: Tensor, inputs: Tensor) -> Tape:
        return self._tapes[0].at(theta, inputs)


def _joined(layers: Sequence[Layer]) -> Layer:
    """One layer's records (B_i, ...) as one (B, ...)."""
    activations = torch.cat([layer.activations for layer in layers])
    signals = torch.cat([layer.signals for layer in layers], 1)
    return replace(layers[0], activations=activations, signals=signals, weight=None, slope=None)
