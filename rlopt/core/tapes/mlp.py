"""MLPTape: forward, J v and J^T u of a multilayer perceptron written out layer by layer.

    s_l = W_l h_{l-1} + b_l,   h_l = f_l(s_l),   z = (s_last, c)   with c the head's constants, broadcast
    J v:    s'_l = V_l h_{l-1} + v_l + W_l h'_{l-1},   h'_l = f'_l s'_l
    J^T u:  d_last = u,   d_{l-1} = f'_{l-1} (W_l^T d_l),   dW_l = d_l^T h_{l-1},   db_l = sum d_l
    hvp:    R d_{l-1} = f'_{l-1} (V_l^T d_l + W_l^T R d_l) + f''_{l-1} s'_{l-1} (W_l^T d_l),   R d_last = 0,
            R dW_l = R d_l^T h_{l-1} + d_l^T h'_{l-1},   R db_l = sum R d_l   (Pearlmutter 1994, R the change along v)

Activations are cached, so a product costs about what its matrix multiplications do; no autograd is involved.
Derivatives are expressed in the activation's output, which is all that is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.tapes.tape import Layer


class ArrayActivation(NamedTuple):
    """f of one layer in numpy."""

    apply_: Callable[[np.ndarray], object]  # s -> f(s), in place
    backward: Callable[[np.ndarray, np.ndarray], np.ndarray]  # g, h -> g f'


class Activation(NamedTuple):
    """f of one layer, with its derivatives as functions of its output h = f(s)."""

    apply_: Callable[[Tensor], Tensor]  # s -> f(s), in place
    backward_: Callable[[Tensor, Tensor], Tensor]  # g, h -> g f', in place on g, one kernel
    derivative: Callable[[Tensor], Tensor]  # h -> f'
    second: Callable[[Tensor], Tensor]  # h -> f''
    in_numpy: ArrayActivation | None = None  # for few samples, where there is one


_aten = torch.ops.aten


def _tanh_backward(g: np.ndarray, h: np.ndarray) -> np.ndarray:
    derivative: np.ndarray = h * h
    np.subtract(1, derivative, out=derivative)
    np.multiply(g, derivative, out=derivative)
    return derivative


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation(
        torch.tanh_,
        lambda g, h: _aten.tanh_backward.grad_input(g, h, grad_input=g),
        lambda h: 1 - h * h,
        lambda h: -2 * h * (1 - h * h),
        ArrayActivation(lambda s: np.tanh(s, out=s), _tanh_backward),
    ),
    nn.ReLU: Activation(
        torch.relu_,
        lambda g, h: _aten.threshold_backward.grad_input(g, h, 0, grad_input=g),
        lambda h: (h > 0).to(h.dtype),
        torch.zeros_like,
        ArrayActivation(lambda s: np.maximum(s, 0, out=s), lambda g, h: np.where(h > 0, g, 0)),
    ),
    nn.ELU: Activation(
        lambda s: torch.nn.functional.elu_(s),
        lambda g, h: _aten.elu_backward.grad_input(g, 1, 1, 1, True, h, grad_input=g),
        lambda h: h.clamp(max=0) + 1,
        lambda h: torch.where(h < 0, h + 1, 0.0),
    ),
    nn.Sigmoid: Activation(
        torch.sigmoid_,
        lambda g, h: _aten.sigmoid_backward.grad_input(g, h, grad_input=g),
        lambda h: h * (1 - h),
        lambda h: h * (1 - h) * (1 - 2 * h),
    ),
}


class Affine(NamedTuple):
    """One layer of the plan: names in theta and the activation that follows."""

    weight: str
    bias: str | None
    activation: Activation | None


def plan(module: nn.Module) -> list[Affine] | None:
    """The layers of ``module`` if it is a chain of Linear layers and known activations; None if it is not."""
    sequential = type(module).forward is nn.Sequential.forward  # a subclass may have its own
    # unlike named_children, _modules lists a module as often as the chain runs through it
    named = module._modules.items() if sequential else [("", module)]
    children = [(name, child) for name, child in named if child is not None]
    layers: list[Affine] = []
    for name, child in children:
        prefix = f"{name}." if name else ""
        if type(child) is nn.Linear:
            bias = f"{prefix}bias" if child.bias is not None else None
            layers.append(Affine(f"{prefix}weight", bias, None))
        elif (known := ACTIVATIONS.get(type(child))) and layers and layers[-1].activation is None:
            if isinstance(child, nn.ELU) and child.alpha != 1:
                return None
            layers[-1] = layers[-1]._replace(activation=known)
        else:
            return None
    planned = {name for layer in layers for name in (layer.weight, layer.bias) if name}
    return layers if layers and planned == {name for name, _ in module.named_parameters()} else None


class MLPTape:
    """Tape of a chain of Linear layers; see the module's equations."""

    chain: ClassVar[bool] = True
    sequence: ClassVar[int] = 1

    def __init__(self, layers: list[Affine], layout: Layout, views: dict[str, Tensor], inputs: Tensor):
        self._plan, self.layout, self._views = layers, layout, views
        self.size = layout.size
        self._forward(inputs)
        self._scratch: list[Tensor | None] = [None] * len(layers)  # (B, J) per hidden layer, for s' and d
        self._bent: tuple[Tensor, list[tuple[Tensor, Tensor | None]]] | None = None  # hvp's results for its last u

    def jvp(self, v: Tensor) -> Tensor:
        along = self.layout.views(v)
        t = _affine(along, self._plan[0], self._hidden[0], self._buffer(0))
        self._times_derivative_(t, 0)
        for i, layer in enumerate(self._plan[1:], 1):
            s = _affine(along, layer, self._hidden[i], self._buffer(i))
            s.addmm_(t, self._views[layer.weight].t())
            t = self._times_derivative_(s, i)
        constants = along.get(CONSTANTS)
        return t if constants is None else torch.cat([t, constants.expand(len(t), -1)], 1)

    def vjp(self, u: Tensor) -> Tensor:
        gradient = u.new_empty(self.layout.size)
        parts = self.layout.views(gradient)
        d = self._split(u, parts)
        last = len(self._plan) - 1
        if self._plan[last].activation:
            d = self._times_derivative_(d.clone(), last)
        for i in range(last, -1, -1):
            layer = self._plan[i]
            torch.mm(d.t(), self._hidden[i], out=parts[layer.weight])
            if layer.bias:
                torch.sum(d, 0, out=parts[layer.bias])
            if i:
                d = torch.mm(d, self._views[layer.weight], out=self._buffer(i - 1))
                self._times_derivative_(d, i - 1)
        return gradient

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        along = self.layout.views(v)
        Rs: list[Tensor] = []  # s'_1 .. s'_last
        Rh: list[Tensor] = []  # h'_1 .. h'_last
        for i, layer in enumerate(self._plan):
            s = _affine(along, layer, self._hidden[i], self._buffer(i))
            if i:
                s.addmm_(Rh[-1], self._views[layer.weight].t())
            Rs.append(s)
            Rh.append(self._times_derivative_(s.clone(), i) if layer.activation else s)
        out = torch.zeros_like(v)  # the constants keep it: the outputs are linear in them
        parts = self.layout.views(out)
        sent = self._sent_back(u)
        Rd = torch.zeros_like(sent[-1][0])
        for i in reversed(range(len(self._plan))):
            layer, (d, bend) = self._plan[i], sent[i]
            if bend is not None:
                Rd = self._times_derivative_(Rd, i).addcmul_(bend, Rs[i])
            torch.mm(Rd.t(), self._hidden[i], out=parts[layer.weight])
            if layer.bias:
                torch.sum(Rd, 0, out=parts[layer.bias])
            if i:
                parts[layer.weight].addmm_(d.t(), Rh[i - 1])
                Rd = (Rd @ self._views[layer.weight]).addmm_(d, along[layer.weight])
        return out

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        K, B = signals.shape[:2]
        d = signals[..., : self.width]
        if self._plan[-1].activation:
            d = d.clone()
        records: list[Layer] = []
        for i in reversed(range(len(self._plan))):
            layer = self._plan[i]
            self._times_derivative_(d, i)
            a, weight = self._hidden[i], self._views[layer.weight]
            slope = partial(layer.activation.derivative, self._hidden[i + 1]) if layer.activation else None
            records.append(Layer(layer.weight, layer.bias, a[:, None], d[:, :, None], weight, slope))
            if i:
                d = torch.mm(d.reshape(K * B, len(weight)), weight).view(K, B, weight.shape[1])
        records.reverse()
        if CONSTANTS in self._views:
            records.append(constant_layer(signals[..., self.width :] if constants is None else constants))
        return records

    def parts(self, rows: int) -> Iterator[tuple[slice, MLPTape]]:
        if rows >= len(self.outputs):
            yield slice(None), self
            return
        for start in range(0, len(self.outputs), rows):
            at = slice(start, start + rows)
            part = copy.copy(self)
            part.outputs, part._hidden = self.outputs[at], [h[at] for h in self._hidden]
            part._scratch, part._bent = [None] * len(self._plan), None
            yield at, part

    def theta(self) -> Tensor:
        return torch.cat([view.flatten() for view in self._views.values()])

    def at(self, theta: Tensor, inputs: Tensor) -> MLPTape:
        return MLPTape(self._plan, self.layout, self.layout.views(theta), inputs)

    def _forward(self, inputs: Tensor) -> None:
        """The forward pass: activations, outputs and their number."""
        self._hidden = [inputs]  # h_0 .. h_last
        h = inputs
        for layer in self._plan:
            h = _affine(self._views, layer, h)
            if layer.activation:
                h = layer.activation.apply_(h)
            self._hidden.append(h)
        self.width = h.shape[1]
        constants = self._views.get(CONSTANTS)
        self.outputs = h if constants is None else torch.cat([h, constants.expand(len(h), -1)], 1)

    def _sent_back(self, u: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """For every layer d_l and f''_l (W_{l+1}^T d_{l+1}), None without activation; kept for the last u."""
        if self._bent is None or self._bent[0] is not u:
            sent: list[tuple[Tensor, Tensor | None]] = []
            d = u[:, : self.width]
            for i in reversed(range(len(self._plan))):
                layer = self._plan[i]
                bend = layer.activation.second(self._hidden[i + 1]).mul_(d) if layer.activation else None
                d = self._times_derivative_(d.clone(), i) if layer.activation else d
                sent.append((d, bend))
                d = d @ self._views[layer.weight] if i else d
            self._bent = u, sent[::-1]
        return self._bent[1]

    def _times_derivative_(self, g: Tensor, i: int) -> Tensor:
        """g (..., B, J) times f'_i, in place."""
        activation = self._plan[i].activation
        return activation.backward_(g, self._hidden[i + 1]) if activation else g

    def _buffer(self, i: int) -> Tensor | None:
        """Workspace of hidden layer i, allocated at the first product; None for the last, whose result is new."""
        if i < len(self._plan) - 1 and self._scratch[i] is None:
            self._scratch[i] = torch.empty_like(self._hidden[i + 1])
        return self._scratch[i]

    def _split(self, u: Tensor, parts: dict[str, Tensor]) -> Tensor:
        """Write the constants' gradient into ``parts``; return the network's own part of u."""
        if CONSTANTS not in parts:
            return u
        torch.sum(u[:, self.width :], 0, out=parts[CONSTANTS])
        return u[:, : self.width]


def constant_layer(signals: Tensor) -> Layer:
    """The parameters that are outputs themselves, such as log sigma, as a layer whose input is 1.

    ``signals`` are (K, B, S).
    """
    nothing = signals.new_empty(signals.shape[1], 1, 0)
    return Layer(CONSTANTS, CONSTANTS, nothing, signals[:, :, None], None, None)


def _affine(views: dict[str, Tensor], layer: Affine, h: Tensor, out: Tensor | None = None) -> Tensor:
    weight = views[layer.weight].t()
    if layer.bias and out is not None:  # addmm would first copy the bias to every row of out, which takes longer
        return torch.mm(h, weight, out=out).add_(views[layer.bias])
    return torch.addmm(views[layer.bias], h, weight) if layer.bias else torch.mm(h, weight, out=out)
