"""JoinedTape: several records of one network, each with its own samples, as one record of all samples.

Sample b belongs to record i(b), and dz_b / dtheta is its Jacobian at that record's theta. So J v is the J_i v one after
another, J^T u the sum of the J_i^T u_i, and each layer's inputs and signals stand one after another. Where the thetas
differ there is no one theta, and no one weight of a layer.

A chain's large batch is `sliced`: forward pass and products go through slices of it, whose intermediate results stay in
the processor's cache and share one workspace. So time a sample does not grow with the batch, and memory beyond the
activations hardly does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from rlopt.core.flat import Layout
from rlopt.core.tapes.mlp import Affine, MLPTape
from rlopt.core.tapes.tape import Layer, Tape

SLICE = 8192  # samples of a chain's tape; a batch of no more is one slice
SLICE_ELSEWHERE = 2**18  # on a GPU, which wants large operations


class JoinedTape:
    """Several tapes of one network as one tape, in the order given.

    Raises ValueError where it is asked for theta and they are not all of ``one_theta``.
    """

    def __init__(self, tapes: Sequence[Tape], one_theta: bool = False):
        self._tapes, self._one_theta = list(tapes), one_theta
        self._sent: tuple[Tensor, tuple[Tensor, ...]] | None = None  # the last u of hvp, and its parts
        first = self._tapes[0]
        self.layout, self.size, self.width = first.layout, first.size, first.width
        self.sequence = max(tape.sequence for tape in self._tapes)
        self.outputs = torch.cat([tape.outputs for tape in self._tapes])
        self.chain = one_theta and first.chain

    @property
    def counts(self) -> list[int]:
        """The samples of each tape."""
        return [len(tape.outputs) for tape in self._tapes]

    def jvp(self, v: Tensor) -> Tensor:
        return torch.cat([tape.jvp(v) for tape in self._tapes])

    def vjp(self, u: Tensor) -> Tensor:
        parts = zip(self._tapes, u.split(self.counts), strict=True)
        return reduce(Tensor.add_, (tape.vjp(part) for tape, part in parts))

    def jvps(self, V: Tensor) -> Tensor:
        return torch.cat([tape.jvps(V) for tape in self._tapes], 1)

    def vjps(self, U: Tensor) -> Tensor:
        parts = zip(self._tapes, U.split(self.counts, 1), strict=True)
        return reduce(Tensor.add_, (tape.vjps(part) for tape, part in parts))

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        if self._sent is None or self._sent[0] is not u:  # what they keep, they keep for the same tensor
            self._sent = u, u.split(self.counts)
        parts = zip(self._tapes, self._sent[1], strict=True)
        return reduce(Tensor.add_, (tape.hvp(part, v) for tape, part in parts))

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        sent = signals.split(self.counts, 1)
        fixed = [None] * len(sent) if constants is None else constants.split(self.counts, 1)
        records = [tape.layers(s, c) for tape, s, c in zip(self._tapes, sent, fixed, strict=True)]
        return [_joined(layers, self._one_theta) for layers in zip(*records, strict=True)]

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
        return JoinedTape(taken or [self._tapes[0].take(index)], self._one_theta)

    def theta(self) -> Tensor:
        if not self._one_theta:
            raise ValueError("several records have no one theta")
        return self._tapes[0].theta()

    def at(self, theta: Tensor, inputs: Tensor) -> Tape:
        return self._tapes[0].at(theta, inputs)


def sliced(plan: list[Affine], layout: Layout, views: dict[str, Tensor], inputs: Tensor) -> JoinedTape:
    """A chain's tape of many ``inputs`` (B, ...), in slices that are `MLPTape`."""
    rows = inputs.split(SLICE if inputs.is_cpu else SLICE_ELSEWHERE)
    tapes = [MLPTape(plan, layout, views, part) for part in rows]
    for tape in tapes[1:]:
        tape.work_with(tapes[0])
    return JoinedTape(tapes, one_theta=True)


def _joined(layers: Sequence[Layer], one_theta: bool) -> Layer:
    """One layer's records (B_i, ...) as one (B, ...)."""
    activations = torch.cat([layer.activations for layer in layers])
    signals = torch.cat([layer.signals for layer in layers], 1)
    found = replace(layers[0], activations=activations, signals=signals)
    if not one_theta:
        return replace(found, weight=None, slope=None)
    return replace(found, slope=layers[0].slope and (lambda: torch.cat([_derivative(layer) for layer in layers])))


def _derivative(layer: Layer) -> Tensor:
    assert layer.derivative is not None
    return layer.derivative
