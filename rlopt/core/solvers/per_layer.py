"""Theta as matrices, one per layer, and each sample's own gradients in that shape.

A layer's weight and bias lie side by side in theta and, written as one matrix W (J, C) with C = I + 1 inputs (the last
one constant) or C = I without a bias, every sample's pulled-back factor is an outer product summed over positions:

    J_b^T u_kb restricted to the layer = sum_l d_kbl a_bl^T    (J, C)

The head's constants are a layer with the constant input alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature, PullBack
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.tapes.tape import Layer


class LayerShape(NamedTuple):
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


LayerShapes = dict[str, LayerShape]  # by the weight's name, in the order of theta


def rooted(curvature: Curvature) -> PullBack:
    """The same curvature, as its metric's ROOT promises it."""
    return cast(PullBack, curvature)


def rooted_by_sample(curvature: Curvature) -> PullBack:
    """The same, for what each sample's own records tell. Raises Incompatible where a network with memory has none."""
    found = rooted(curvature)
    if found.tape.sequence > 1:
        reason = "layer records of a network with memory are of whole sequences, and no sample has its own"
        raise Incompatible(reason, Remedy.OTHER_SOLVER)
    return found


def statistics(
    curvature: Curvature, f: Callable[[Layer, Tensor], tuple[Tensor, ...]]
) -> tuple[LayerShapes, list[tuple[Tensor, ...]]]:
    """Each layer's shape, and ``f(layer, root)`` summed over all ranks; see `PullBack.layer_mean`."""
    shapes: LayerShapes = {}

    def with_shape(layer: Layer, root: Tensor) -> tuple[Tensor, ...]:
        shapes[layer.weight_name] = layer_shape(layer)
        return f(layer, root)

    values = rooted(curvature).layer_mean(with_shape)
    return shapes, values


def layer_means(curvature: Curvature, f: Callable[[Layer, Tensor], Tensor]) -> tuple[list[Tensor], list[LayerShape]]:
    """`statistics` of one tensor a layer."""
    shapes, values = statistics(curvature, lambda layer, root: (f(layer, root),))
    return [value for (value,) in values], list(shapes.values())


def layer_shape(layer: Layer) -> LayerShape:
    bias = layer.bias_name is not None
    return LayerShape(layer.signals.shape[3], layer.activations.shape[2] + bias, bias)


def split(v: Tensor, shapes: list[LayerShape]) -> list[Tensor]:
    """v (P,) -> one matrix (J, C) per layer. Raises ValueError when the layers do not make up all of theta."""
    sizes = [shape.size for shape in shapes]
    if sum(sizes) != len(v):
        raise ValueError(f"the layers hold {sum(sizes)} parameters, theta has {len(v)}")
    return [shape.matrix(part) for shape, part in zip(shapes, v.split(sizes), strict=True)]


def join(matrices: list[Tensor], shapes: list[LayerShape]) -> Tensor:
    """One matrix (J, C) per layer -> (P,)."""
    return torch.cat([shape.flat(matrix) for shape, matrix in zip(shapes, matrices, strict=True)])


def gradients(layer: Layer) -> Tensor:
    """(K, B, J, C) each sample's own gradient of each factor, positions summed."""
    return torch.einsum("kblj,bli->kbji", layer.signals, layer.inputs)


def products(layer: Layer) -> Tensor:
    """(K B, K B) inner products of the layer's part of J_b^T u_kb."""
    if layer.signals.shape[2] > 1:
        rows = gradients(layer).flatten(2).flatten(0, 1)
        return rows @ rows.t()
    K = len(layer.signals)
    a, d = layer.inputs[:, 0], layer.signals[:, :, 0].flatten(0, 1)
    return (a @ a.t()).repeat(K, K) * (d @ d.t())


def one_factor(layer: Layer) -> Layer:
    """With one position (L = 1), the layer with the one factor d_j = sqrt(sum_k d_kj^2); else the layer itself.

    Statistics without a product of two different outputs are the same for it, at 1 / K of the cost.
    """
    if layer.signals.shape[2] > 1 or len(layer.signals) == 1:
        return layer
    return replace(layer, signals=squares(layer).sqrt()[None, :, None])


def squares(layer: Layer) -> Tensor:
    """(B, J) sum_k d_k^2 of a layer with one position."""
    d = layer.signals[:, :, 0].square()
    return d[0] if len(d) == 1 else d.sum(0)


def chunks(layer: Layer, size: int) -> Iterator[Layer]:
    """The layer on ``size`` samples at a time, so that what is made per sample stays small; at least once."""
    for i in range(0, max(len(layer.activations), 1), size):
        part = slice(i, i + size)
        yield replace(layer, activations=layer.activations[part], signals=layer.signals[:, part])


def weighted(layer: Layer, root: Tensor) -> Layer:
    """The layer with its signals times ``root`` (B,), the square root of each sample's share.

    Signals hold that factor once already, so that they are then weighted by the share itself.
    """
    return replace(layer, signals=layer.signals * root[:, None, None])
