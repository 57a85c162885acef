"""Tape: the record of one forward pass of a network at one theta, and the products with its Jacobian.

With J_b = dz_b / dtheta (O, P) for sample b:

| method            | computes                                              |
|---|---|
| outputs           | z (B, O)                                              |
| jvp(v: (P,))      | J_b v for every b -> (B, O)                           |
| vjp(u: (B, O))    | sum_b J_b^T u_b -> (P,)                               |
| jvps(V: (P, r))   | jvp of r vectors at once -> (r, B, O)                 |
| vjps(U: (r, B, O))| vjp of r of them at once -> (P, r)                    |
| hvp(u, v)         | the derivative of vjp(u) along v, u fixed -> (P,)     |
| layers(U: (K,B,O))| for every layer its inputs and the signals U sends back |
| parts(rows)       | the same record on fewer samples at a time            |
| take(index)       | the same record on these samples alone                |
| at(theta, inputs) | the same network's record at another theta            |

A structured solver (diagonal, block, Kronecker, Gram) reads the layers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from rlopt.core.flat import Layout


@dataclass(frozen=True)
class Layer:
    """One affine layer s = W a + b as the curvature sees it; J_b^T u restricted to it is sum_l d_l (x) a_l.

    L counts positions inside a layer (1 for Linear on vectors); the column of ones stands for the bias.
    """

    weight_name: str  # as in theta's layout; the constant layer has only a bias
    bias_name: str | None
    activations: Tensor  # (B, L, I) what the weight multiplies; I = 0 for the head's constants
    signals: Tensor  # d (K, B, L, J)
    weight: Tensor | None  # (J, I); None for the head's constants
    slope: Callable[[], Tensor] | None  # makes the derivative

    @cached_property
    def inputs(self) -> Tensor:
        """a (B, L, I + 1) with a column of ones for the bias, or (B, L, I) without one."""
        if self.bias_name is None:
            return self.activations
        return torch.cat([self.activations, self.activations.new_ones(*self.activations.shape[:2], 1)], 2)

    @cached_property
    def derivative(self) -> Tensor | None:
        """(B, J) of the activation that follows, None where none does."""
        return self.slope() if self.slope else None


class Tape(Protocol):
    """A forward pass at one theta. All methods return detached tensors."""

    outputs: Tensor  # (B, O)
    layout: Layout  # of theta
    size: int  # P
    width: int  # of the O outputs those that the network computes; the others are the head's constants

    @property
    def chain(self) -> bool:
        """True: each layer's input is the activation, unit by unit, of the one before, and records hold f'."""

    @property
    def sequence(self) -> int:
        """Rows that follow one another in time, so many at a time, whose outputs the layer records mix; 1: none."""

    def jvp(self, v: Tensor) -> Tensor:
        """(P,) -> (B, O): the change of every output per unit of theta's change along v."""

    def vjp(self, u: Tensor) -> Tensor:
        """(B, O) -> (P,): the gradient in theta of sum_b u_b . z_b."""

    def jvps(self, V: Tensor) -> Tensor:
        """(P, r) -> (r, B, O): `jvp` of every column, to rounding."""

    def vjps(self, U: Tensor) -> Tensor:
        """(r, B, O) -> (P, r): `vjp` of every row, to rounding."""

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        """(B, O), (P,) -> (P,): sum_b sum_o u_bo (d^2 z_bo / dtheta^2) v, the second derivatives of the outputs.

        Results that depend on u alone are kept for the last u, which must not be changed in place between calls.
        """

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        """(K, B, O) -> one record per layer, in the order of theta.

        With ``constants`` (K', B, O - width) the head's constants are sent these and ``signals`` are (K, B, width).
        """

    def parts(self, rows: int) -> Iterator[tuple[slice, Tape]]:
        """The tape of ``rows`` samples at a time where that needs no new forward pass, else of all of them."""

    def take(self, index: Tensor) -> Tape:
        """The tape of these samples, ascending numbers among B; whole sequences where samples mix within them."""

    def theta(self) -> Tensor:
        """A copy of theta (P,)."""

    def at(self, theta: Tensor, inputs: Tensor) -> Tape:
        """A new record of the same network, at theta (P,) and inputs (B, ...)."""


def stack_jvps(tape: Tape, V: Tensor) -> Tensor:
    """`Tape.jvps` by one product after another."""
    return torch.stack([tape.jvp(v) for v in V.t().contiguous()])


def stack_vjps(tape: Tape, U: Tensor) -> Tensor:
    """`Tape.vjps` by one product after another."""
    return torch.stack([tape.vjp(u) for u in U], 1)
