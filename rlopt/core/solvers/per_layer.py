"""Theta as matrices, one per layer, and each sample's own gradients in that shape.

A layer's weight and bias lie side by side in theta and, written as one matrix W (J, C) with C = I + 1 inputs (the last
one constant) or C = I without a bias, every sample's pulled-back factor is an outer product summed over positions:

    J_b^T u_kb restricted to the layer = sum_l d_kbl a_bl^T    (J, C)

The head's constants are a layer with the constant input alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol, cast

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.tape import Layer, Tape


class Rooted(Protocol):
    """A curvature M = sum_b share_b J_b^T (sum_k u_kb u_kb^T) J_b, known through its factors: see `PullBack`."""

    @property
    def tape(self) -> Tape: ...

    @property
    def share(self) -> Tensor: ...

    @property
    def root(self) -> Callable[[], Tensor] | None: ...

    def layer_mean(self, f: Callable[[Layer, Tensor], tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]: ...


class Place(NamedTuple):
    """The shape of one layer's part of theta."""

    outputs: int  # J
    inputs: int  # C, with the constant one if there is a bias
    bias: bool

    @property
    def size(self) -> int:
        return self.outputs * self.inputs

    def matrix(self, part: Tensor) -> Tensor:
        """(J C,) in theta's order, weight then bias, as one matrix (J, C)."""
        if not self.bias:
            return part.view(self.outputs, self.inputs)
        weight, bias = part.split([self.size - self.outputs, self.outputs])
        return torch.cat([weight.view(self.outputs, -1), bias[:, None]], 1)

    def flat(self, matrix: Tensor) -> Tensor:
        """(..., J, C) -> (..., J C) in theta's order."""
        if not self.bias:
            return matrix.flatten(-2)
        return torch.cat([matrix[..., :-1].flatten(-2), matrix[..., -1]], -1)


def rooted(curvature: Curvature) -> Rooted:
    """The same curvature, as its metric's ROOT promises it."""
    return cast(Rooted, curvature)


def root(curvature: Rooted) -> Tensor:
    """U (K, B, O), the metric's root in output space."""
    if curvature.root is None:
        raise ValueError("this metric has no root; only its products can be used")
    return curvature.root()


def layer_means(curvature: Curvature, f: Callable[[Layer, Tensor], Tensor]) -> tuple[list[Tensor], list[Place]]:
    """``f(layer, share)`` summed over all ranks, and each layer's place; see `PullBack.layer_mean`."""
    places: list[Place] = []

    def placed(layer: Layer, share: Tensor) -> tuple[Tensor]:
        places.append(place(layer))
        return (f(layer, share),)

    means = [mean for (mean,) in rooted(curvature).layer_mean(placed)]
    return means, places


def place(layer: Layer) -> Place:
    return Place(layer.signals.shape[3], layer.inputs.shape[2], layer.bias_name is not None)


def split(v: Tensor, places: list[Place]) -> list[Tensor]:
    """v (P,) -> one matrix (J, C) per layer. Raises ValueError when the layers do not make up all of theta."""
    if sum(p.size for p in places) != len(v):
        raise ValueError(f"the layers hold {sum(p.size for p in places)} parameters, theta has {len(v)}")
    parts = v.split([p.size for p in places])
    return [p.matrix(part) for p, part in zip(places, parts, strict=True)]


def join(matrices: list[Tensor], places: list[Place]) -> Tensor:
    """One matrix (J, C) per layer -> (P,)."""
    return torch.cat([p.flat(m) for p, m in zip(places, matrices, strict=True)])


def gradients(layer: Layer) -> Tensor:
    """(K, B, J, C) each sample's own gradient of each factor, positions summed."""
    return torch.einsum("kblj,bli->kbji", layer.signals, layer.inputs)


def merged(layer: Layer) -> Layer:
    """With one position (L = 1), the layer with the one factor d_j = sqrt(sum_k d_kj^2); else the layer itself.

    Statistics without a product of two different outputs are the same for it, at 1 / K of the cost.
    """
    if layer.signals.shape[2] > 1 or len(layer.signals) == 1:
        return layer
    return replace(layer, signals=layer.signals.square().sum(0, keepdim=True).sqrt())


def chunks(layer: Layer, share: Tensor, size: int) -> Iterator[tuple[Layer, Tensor]]:
    """The layer on ``size`` samples at a time, so that what is made per sample stays small; at least once."""
    for i in range(0, max(len(share), 1), size):
        part = slice(i, i + size)
        yield replace(layer, inputs=layer.inputs[part], signals=layer.signals[:, part]), share[part]
