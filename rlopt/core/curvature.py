"""Curvature: a metric M bound to one tape and one set of samples. The Jacobian work of rlopt is here, once.

    M = sum_b share_b J_b^T C_b J_b,     M v: v -> J v -> C J v -> share C J v -> J^T share C J v

A metric supplies only ``apply``: t (B, O) -> C t, and where it exists ``root``: U (K, B, O) with C = sum_k u_k u_k^T.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rlopt.core.distributed import all_sum
from rlopt.core.tape import Layer, Tape


class Curvature(Protocol):
    """A symmetric matrix M (P, P), known through its products."""

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        ...

    def product(self, v: Tensor) -> Tensor:
        """M v, (P,) -> (P,)."""
        ...

    def dense(self) -> Tensor:
        """M itself (P, P); for small networks and tests."""
        ...


@dataclass(frozen=True)
class PullBack:
    """A metric of the output space pulled back to theta."""

    tape: Tape
    share: Tensor  # (B,), see Samples.share
    apply: Callable[[Tensor], Tensor]  # t (B, O) -> C t (B, O), a new tensor
    root: Callable[[], Tensor] | None = None  # -> U (K, B, O)

    @property
    def size(self) -> int:
        return self.tape.size

    def product(self, v: Tensor) -> Tensor:
        return all_sum(self.tape.vjp(self.apply(self.tape.jvp(v)).mul_(self.share[:, None])))

    def dense(self) -> Tensor:
        return _columns(self.product, self.tape)

    def layer_mean(self, f: Callable[[Layer, Tensor], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """``f(layer, share)`` for every layer, summed over all ranks; the layers' signals are the metric's root.

        f sums over positions L first, then takes squares or outer products, then sums over samples weighted by
        share (B,), in which it must be linear. Weights, masks and the reduction over ranks are thereby done once.
        """
        if self.root is None:
            raise ValueError("this metric has no root; only its products can be used")
        layers = self.tape.layers(self.root())
        return [tuple(all_sum(part) for part in f(layer, self.share)) for layer in layers]


def factored(tape: Tape, share: Tensor, U: Tensor) -> PullBack:
    """The pull-back of C = sum_k u_k u_k^T, from U (K, B, O)."""

    def apply(t: Tensor) -> Tensor:
        return ((U * t).sum(2, keepdim=True) * U).sum(0)

    return PullBack(tape, share, apply, lambda: U)


@dataclass(frozen=True)
class ByProduct:
    """A symmetric matrix M of which only the products v -> M v are at hand; (P,) -> (P,), summed over ranks."""

    tape: Tape
    multiply: Callable[[Tensor], Tensor]

    @property
    def size(self) -> int:
        return self.tape.size

    def product(self, v: Tensor) -> Tensor:
        return self.multiply(v)

    def dense(self) -> Tensor:
        return _columns(self.multiply, self.tape)


@dataclass(frozen=True)
class Euclidean:
    """M = I."""

    tape: Tape

    @property
    def size(self) -> int:
        return self.tape.size

    def product(self, v: Tensor) -> Tensor:
        return v

    def dense(self) -> Tensor:
        return torch.eye(self.size, dtype=self.tape.outputs.dtype, device=self.tape.outputs.device)


@dataclass(frozen=True)
class Given:
    """A matrix that is at hand: ``entries`` (P, P), or (P,) for a diagonal one."""

    entries: Tensor

    @property
    def size(self) -> int:
        return len(self.entries)

    def product(self, v: Tensor) -> Tensor:
        return self.entries * v if self.entries.ndim == 1 else self.entries @ v

    def dense(self) -> Tensor:
        return torch.diag(self.entries) if self.entries.ndim == 1 else self.entries


def _columns(product: Callable[[Tensor], Tensor], tape: Tape) -> Tensor:
    """The symmetric matrix with the given product, one column at a time."""
    matrix = tape.outputs.new_zeros(tape.size, tape.size)
    e = tape.outputs.new_zeros(tape.size)
    for i in range(tape.size):
        e[i] = 1
        matrix[i] = product(e)
        e[i] = 0
    return (matrix + matrix.t()) / 2
