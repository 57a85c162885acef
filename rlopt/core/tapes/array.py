"""ArrayTape: an MLPTape on few samples, whose forward pass and J^T u are in numpy.

The equations are those of `tapes.mlp`, and so is all else of the tape, on the same memory. With 64 samples of a 64-64
network an operator of torch takes longer to be called than to compute; numpy's take a fifth of that.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rlopt.core.arrays import multiply
from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.tapes.activations import ArrayActivation
from rlopt.core.tapes.mlp import Affine, MLPTape

_LARGEST = 2**20  # multiplications in a layer's product, of those where arrays were measured to be faster
_DTYPES = (torch.float32, torch.float64)


class ArrayLayer(NamedTuple):
    """One layer with its parameters at one theta, as arrays in theta's memory."""

    weight: np.ndarray  # (J, I)
    bias: np.ndarray | None  # (J,)
    activation: ArrayActivation | None
    weight_at: slice  # of theta
    bias_at: slice | None


class Chain(NamedTuple):
    """All layers at one theta."""

    layers: list[ArrayLayer]
    constants: np.ndarray | None  # (S,) the head's, last in theta


class ArrayTape(MLPTape):
    """Tape of a chain of Linear layers with activations that numpy has, of inputs that are an array.

    Its other methods take and return tensors, as those of every tape.
    """

    def __init__(self, plan: list[Affine], chain: Chain, layout: Layout, views: dict[str, Tensor], inputs: np.ndarray):
        """``chain`` is `bind` of the ``plan`` and these ``views`` of theta."""
        self._plan, self._chain, self.layout, self._views = plan, chain, layout, views
        self.size = layout.size
        self._arrays = [inputs]  # h_0 .. h_last
        h = inputs
        for weight, bias, activation, _, _ in chain.layers:
            h = multiply(h, weight.T)
            if bias is not None:
                np.add(h, bias, out=h)
            if activation:
                activation.apply_(h)
            self._arrays.append(h)
        self.width, self.z = h.shape[1], h
        if chain.constants is not None:
            self.z = np.empty((len(h), self.width + len(chain.constants)), h.dtype)
            self.z[:, : self.width], self.z[:, self.width :] = h, chain.constants
        self._scratch, self._bent = [None] * len(plan), None

    @cached_property
    def outputs(self) -> Tensor:  # type: ignore[override]
        return torch.from_numpy(self.z)

    @cached_property
    def _hidden(self) -> list[Tensor]:  # type: ignore[override]
        return [torch.from_numpy(h) for h in self._arrays]

    def vjp(self, u: Tensor) -> Tensor:
        return torch.from_numpy(self.array_vjp(u.numpy()))

    def array_vjp(self, u: np.ndarray) -> np.ndarray:
        """`vjp` of an array (B, O), as an array (P,)."""
        gradient, d = np.empty(self.size, u.dtype), u
        if self._chain.constants is not None:
            d = u[:, : self.width]
            np.add.reduce(u[:, self.width :], 0, out=gradient[-len(self._chain.constants) :])
        for i in range(len(self._plan) - 1, -1, -1):
            weight, _, activation, weight_at, bias_at = self._chain.layers[i]
            if activation:
                d = activation.backward(d, self._arrays[i + 1])
            multiply(d.T, self._arrays[i], out=gradient[weight_at].reshape(weight.shape))
            if bias_at:
                np.add.reduce(d, 0, out=gradient[bias_at])
            if i:
                d = multiply(d, weight)
        return gradient

    def take(self, index: Tensor | slice) -> ArrayTape:
        part = super().take(index)
        assert isinstance(part, ArrayTape)
        at = index if isinstance(index, slice) else index.numpy()
        part._arrays, part.z = [h[at] for h in self._arrays], self.z[at]
        return part


def bind(plan: list[Affine], layout: Layout, views: dict[str, Tensor]) -> Chain:
    """The layers of a chain with their parameters in theta's memory."""
    arrays, at = {name: view.detach().numpy() for name, view in views.items()}, layout.slices
    layers = [
        ArrayLayer(
            arrays[a.weight],
            arrays[a.bias] if a.bias else None,
            a.activation and a.activation.in_numpy,
            at[a.weight],
            at[a.bias] if a.bias else None,
        )
        for a in plan
    ]
    return Chain(layers, arrays.get(CONSTANTS))


def suits(layers: list[Affine], views: dict[str, Tensor], inputs: Tensor, samples: int) -> bool:
    """True where an ArrayTape of so many of these inputs is faster than an MLPTape."""
    weights = [views[layer.weight] for layer in layers]
    known = all(not a.norm and (a.activation is None or a.activation.in_numpy) for a in layers)
    shared = all(
        x.device.type == "cpu" and x.dtype == weights[0].dtype and x.dtype in _DTYPES for x in (*weights, inputs)
    )
    return known and shared and samples * max(x.numel() for x in weights) <= _LARGEST
