"""MaskedTape: the record of a network of which some input columns are a mask of its outputs, or are not read at all.

    z_bo = the network's output where sample b allows o, else FORBIDDEN;    dz_b / dtheta has a row of zeros there

FORBIDDEN is so far below every logit that softmax makes it a probability of exactly 0, in float32 and in float64. So
a Categorical of such z is the Categorical over the allowed actions alone: its log-probabilities, entropy, KL and Fisher
information are those, with rows and columns of zeros for the rest (Huang and Ontanon 2022). It is a number and not
-inf, so that 0 times a difference of two of them is 0. No head, metric, solver or objective knows of masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from rlopt.core.tapes.tape import Layer, Tape

FORBIDDEN = -1e9  # instead of a forbidden action's logit


def apply_mask(z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (B, O) of which the last M are masked, by a mask (B, M) of 1 and 0; and 1 or 0 for all of them (B, O)."""
    allowed = mask.to(z.dtype)
    if first := z.shape[1] - mask.shape[1]:  # a value, which is never forbidden
        allowed = torch.cat([allowed.new_ones(len(z), first), allowed], 1)
    return torch.where(allowed > 0, z, FORBIDDEN), allowed


class MaskedTape:
    """A tape whose inputs have ``unread`` further columns: the ``mask`` (B, M) of its last outputs, if there is one."""

    def __init__(self, tape: Tape, unread: int, mask: Tensor | None):
        self._tape, self._unread, self._mask = tape, unread, mask
        self.chain, self.layout, self.size, self.width = tape.chain, tape.layout, tape.size, tape.width
        self.sequence = tape.sequence
        self.outputs, self._allowed = tape.outputs, cast(Tensor | None, None)
        if mask is not None:
            self.outputs, self._allowed = apply_mask(tape.outputs, mask)
        self._sent: tuple[Tensor, Tensor] | None = None  # the last u of hvp, and what of it is allowed

    def jvp(self, v: Tensor) -> Tensor:
        return self._open(self._tape.jvp(v))

    def vjp(self, u: Tensor) -> Tensor:
        return self._tape.vjp(self._open(u))

    def jvps(self, V: Tensor) -> Tensor:
        return self._open(self._tape.jvps(V))

    def vjps(self, U: Tensor) -> Tensor:
        return self._tape.vjps(self._open(U))

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        if self._sent is None or self._sent[0] is not u:
            self._sent = u, self._open(u)
        return self._tape.hvp(self._sent[1], v)

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        return self._tape.layers(self._open(signals), constants)

    def parts(self, rows: int) -> Iterator[tuple[slice, Tape]]:
        for at, tape in self._tape.parts(rows):
            mask = None if self._mask is None else self._mask[at]
            yield at, cast(Tape, MaskedTape(tape, self._unread, mask))

    def take(self, index: Tensor) -> Tape:
        mask = None if self._mask is None else self._mask[index]
        return cast(Tape, MaskedTape(self._tape.take(index), self._unread, mask))

    def theta(self) -> Tensor:
        return self._tape.theta()

    def at(self, theta: Tensor, inputs: Tensor) -> Tape:
        mask = None if self._mask is None else inputs[:, -self._unread :]
        return cast(Tape, MaskedTape(self._tape.at(theta, inputs[:, : -self._unread]), self._unread, mask))

    def _open(self, u: Tensor) -> Tensor:
        """u (..., B, O) without what belongs to forbidden outputs."""
        return u if self._allowed is None else u * self._allowed
