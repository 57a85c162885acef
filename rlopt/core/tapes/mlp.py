"""MLPTape: forward, J v and J^T u of a multilayer perceptron written out layer by layer.

    s_l = W_l h_{l-1} + b_l,   h_l = f_l(s_l),   z = (s_last, c)   with c the head's constants, broadcast
    J v:    s'_l = V_l h_{l-1} + v_l + W_l h'_{l-1},   h'_l = f'_l s'_l
    J^T u:  d_last = u,   d_{l-1} = f'_{l-1} (W_l^T d_l),   dW_l = d_l^T h_{l-1},   db_l = sum d_l
    jvps, vjps: the same for r vectors at once, (r, B, J) in place of (B, J)
    hvp:    R d_{l-1} = f'_{l-1} (V_l^T d_l + W_l^T R d_l) + f''_{l-1} s'_{l-1} (W_l^T d_l),   R d_last = 0,
            R dW_l = R d_l^T h_{l-1} + d_l^T h'_{l-1},   R db_l = sum R d_l   (Pearlmutter 1994, R the change along v)

Activations are cached, so a product costs about what its matrix multiplications do; no autograd is involved.
Derivatives are expressed in the activation's output, which is all that is kept, or in its input for GELU and SiLU.
Layer normalisation may stand between a Linear layer and its activation, see `tapes.norm`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.tapes.activations import Activation, known_activation
from rlopt.core.tapes.norm import Norm, Normalised
from rlopt.core.tapes.tape import Layer, stack_jvps, stack_vjps


class Affine(NamedTuple):
    """One layer of the plan: names in theta, the normalisation and the activation that follow."""

    weight: str
    bias: str | None
    activation: Activation | None
    norm: Norm | None = None

    @property
    def names(self) -> tuple[str | None, ...]:
        """Of its parameters, in the order of theta."""
        return self.weight, self.bias, *(self.norm[:2] if self.norm else ())


def plan(module: nn.Module) -> list[Affine] | None:
    """The layers of ``module`` if it is a chain of Linear layers and known activations; None if it is not.

    Layer normalisation is known between a Linear layer and its activation.
    """
    sequential = type(module).forward is nn.Sequential.forward  # a subclass may have its own
    # unlike named_children, _modules lists a module as often as the chain runs through it
    named = module._modules.items() if sequential else [("", module)]
    children = [(name, child) for name, child in named if child is not None]
    layers: list[Affine] = []
    for name, child in children:
        prefix = f"{name}." if name else ""
        fresh = bool(layers) and layers[-1].activation is None
        if type(child) is nn.Linear:
            bias = f"{prefix}bias" if child.bias is not None else None
            layers.append(Affine(f"{prefix}weight", bias, None))
        elif type(child) is nn.LayerNorm and fresh and layers[-1].norm is None and len(child.normalized_shape) == 1:
            own = [f"{prefix}{n}" if getattr(child, n) is not None else None for n in ("weight", "bias")]
            layers[-1] = layers[-1]._replace(norm=Norm(own[0], own[1], child.eps))
        elif fresh and (known := known_activation(child)):
            layers[-1] = layers[-1]._replace(activation=known)
        else:
            return None
    planned = {name for layer in layers for name in layer.names if name}
    return layers if layers and planned == {name for name, _ in module.named_parameters()} else None


def is_chain(layers: list[Affine] | None) -> bool:
    """True where activations alone stand between affine layers; see `Tape.chain`."""
    return layers is not None and not any(layer.norm for layer in layers)


class Sent(NamedTuple):
    """What one u sends back to a layer."""

    d: Tensor  # (B, J) at its affine part
    bend: Tensor | None  # f''_l (W_{l+1}^T d_{l+1}), None without activation
    after: Tensor  # d at the result of its normalisation, which is that of its affine part where there is none


class MLPTape:
    """Tape of a chain of Linear layers; see the module's equations."""

    sequence: ClassVar[int] = 1
    _inner: Mapping[int, Tensor] = {}  # s (B, J) of the layers whose activation's derivatives are functions of it
    _norms: Mapping[int, Normalised] = {}  # of the layers that are normalised

    def __init__(self, layers: list[Affine], layout: Layout, views: dict[str, Tensor], inputs: Tensor):
        self._plan, self.layout, self._views = layers, layout, views
        self.size = layout.size
        self._forward(inputs)
        self._scratch: list[Tensor | None] = [None] * len(layers)  # (B, J) per hidden layer, for s' and d
        self._bent: tuple[Tensor, list[Sent]] | None = None  # hvp's results for its last u

    @property
    def chain(self) -> bool:
        return is_chain(self._plan)

    def jvp(self, v: Tensor) -> Tensor:
        along = self.layout.views(v)
        t = _affine(along, self._plan[0], self._hidden[0], self._buffer(0))
        t = self._times_derivative_(self._normed(t, 0, along), 0)
        for i, layer in enumerate(self._plan[1:], 1):
            s = _affine(along, layer, self._hidden[i], self._buffer(i))
            s.addmm_(t, self._views[layer.weight].t())
            t = self._times_derivative_(self._normed(s, i, along), i)
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
            if layer.norm:
                d = self._norms[i].vjp(d, parts)
            torch.mm(d.t(), self._hidden[i], out=parts[layer.weight])
            if layer.bias:
                torch.sum(d, 0, out=parts[layer.bias])
            if i:
                d = torch.mm(d, self._views[layer.weight], out=self._buffer(i - 1))
                self._times_derivative_(d, i - 1)
        return gradient

    def jvps(self, V: Tensor) -> Tensor:
        if self._norms:
            return stack_jvps(self, V)
        along = self.layout.stacked(V.t().contiguous())
        t: Tensor | None = None
        for i, layer in enumerate(self._plan):
            s = self._hidden[i] @ along[layer.weight].mT
            if layer.bias:
                s += along[layer.bias][:, None]
            if t is not None:
                s += t @ self._views[layer.weight].t()
            t = self._times_derivative_(s, i)
        assert t is not None
        constants = along.get(CONSTANTS)
        return t if constants is None else torch.cat([t, constants[:, None].expand(-1, t.shape[1], -1)], 2)

    def vjps(self, U: Tensor) -> Tensor:
        if self._norms:
            return stack_vjps(self, U)
        gradients = U.new_empty(len(U), self.size)
        parts = self.layout.stacked(gradients)
        if CONSTANTS in parts:
            parts[CONSTANTS].copy_(U[..., self.width :].sum(1))
        d = U[..., : self.width]
        if self._plan[-1].activation:
            d = d.clone()
        for i in reversed(range(len(self._plan))):
            layer = self._plan[i]
            d = self._times_derivative_(d, i)
            parts[layer.weight].copy_(d.mT @ self._hidden[i])
            if layer.bias:
                parts[layer.bias].copy_(d.sum(1))
            if i:
                d = d @ self._views[layer.weight]
        return gradients.t()

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        along = self.layout.views(v)
        Ra: list[Tensor] = []  # of what the affine layers give: s', but for a normalisation
        Rs: list[Tensor] = []  # s'_1 .. s'_last
        Rh: list[Tensor] = []  # h'_1 .. h'_last
        for i, layer in enumerate(self._plan):
            s = _affine(along, layer, self._hidden[i], self._buffer(i))
            if i:
                s.addmm_(Rh[-1], self._views[layer.weight].t())
            Ra.append(s.clone() if layer.norm else s)
            Rs.append(self._normed(s, i, along))
            Rh.append(self._times_derivative_(Rs[i].clone(), i) if layer.activation else Rs[i])
        out = torch.zeros_like(v)  # the constants keep it: the outputs are linear in them
        parts = self.layout.views(out)
        sent = self._sent_back(u)
        Rd = torch.zeros_like(sent[-1][0])
        for i in reversed(range(len(self._plan))):
            layer, (d, bend, after) = self._plan[i], sent[i]
            if bend is not None:
                Rd = self._times_derivative_(Rd, i).addcmul_(bend, Rs[i])
            if layer.norm:
                Rd = self._norms[i].second(after, Rd, Ra[i], along, parts)
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
            if layer.norm:
                own, d = self._norms[i].signals(d)
                records += [constant_layer(gradient, name) for name, gradient in reversed(own)]
            a, weight = self._hidden[i], self._views[layer.weight]
            slope = partial(layer.activation.derivative, self._kept(i)) if layer.activation else None
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
            yield at, self.take(at)

    def take(self, index: Tensor | slice) -> MLPTape:
        part = copy.copy(self)
        part.outputs, part._hidden = self.outputs[index], [h[index] for h in self._hidden]
        part._inner = {i: s[index] for i, s in self._inner.items()}
        part._norms = {i: record.at(index) for i, record in self._norms.items()}
        part._scratch, part._bent = [None] * len(self._plan), None
        return part

    def work_with(self, other: MLPTape) -> None:
        """Use the workspace of ``other``, where it has as many samples. Neither result of a product lies in it."""
        if len(self.outputs) == len(other.outputs):
            self._scratch = other._scratch

    def theta(self) -> Tensor:
        return torch.cat([view.flatten() for view in self._views.values()])

    def at(self, theta: Tensor, inputs: Tensor) -> MLPTape:
        return MLPTape(self._plan, self.layout, self.layout.views(theta), inputs)

    def _forward(self, inputs: Tensor) -> None:
        """The forward pass: activations, outputs and their number."""
        self._hidden = [inputs]  # h_0 .. h_last
        h = inputs
        for i, layer in enumerate(self._plan):
            h = _affine(self._views, layer, h)
            if layer.norm:
                record, h = Normalised.forward(layer.norm, self._views, h)
                self._norms = {**self._norms, i: record}
            if layer.activation:
                if layer.activation.of_input:
                    self._inner = {**self._inner, i: h}
                    h = h.clone()
                h = layer.activation.apply_(h)
            self._hidden.append(h)
        self.width = h.shape[1]
        constants = self._views.get(CONSTANTS)
        self.outputs = h if constants is None else torch.cat([h, constants.expand(len(h), -1)], 1)

    def _sent_back(self, u: Tensor) -> list[Sent]:
        """What u sends to every layer; kept for the last u."""
        if self._bent is None or self._bent[0] is not u:
            sent: list[Sent] = []
            d = u[:, : self.width]
            for i in reversed(range(len(self._plan))):
                layer = self._plan[i]
                bend = layer.activation.second(self._kept(i)).mul_(d) if layer.activation else None
                after = d = self._times_derivative_(d.clone(), i) if layer.activation else d
                if layer.norm:
                    d = self._norms[i].signals(d[None])[1][0]
                sent.append(Sent(d, bend, after))
                d = d @ self._views[layer.weight] if i else d
            self._bent = u, sent[::-1]
        return self._bent[1]

    def _times_derivative_(self, g: Tensor, i: int) -> Tensor:
        """g (..., B, J) times f'_i, in place."""
        activation = self._plan[i].activation
        return activation.backward_(g, self._kept(i)) if activation else g

    def _kept(self, i: int) -> Tensor:
        """(B, J) what the derivatives of layer i's activation are functions of."""
        return self._inner[i] if i in self._inner else self._hidden[i + 1]

    def _normed(self, s: Tensor, i: int, along: dict[str, Tensor]) -> Tensor:
        """The change of layer i's normalised units, where it has a normalisation, for s (B, J) of those before it."""
        return self._norms[i].jvp(s, along) if i in self._norms else s

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


def constant_layer(signals: Tensor, name: str = CONSTANTS) -> Layer:
    """S numbers of theta as a layer whose input is 1, so that their own gradients are its signals (K, B, S).

    They are the parameters that are outputs themselves, such as log sigma, or those of another kind of layer.
    """
    nothing = signals.new_empty(signals.shape[1], 1, 0)
    return Layer(name, name, nothing, signals[:, :, None], None, None)


def _affine(views: dict[str, Tensor], layer: Affine, h: Tensor, out: Tensor | None = None) -> Tensor:
    weight = views[layer.weight].t()
    if layer.bias and out is not None:  # addmm would first copy the bias to every row of out, which takes longer
        return torch.mm(h, weight, out=out).add_(views[layer.bias])
    return torch.addmm(views[layer.bias], h, weight) if layer.bias else torch.mm(h, weight, out=out)
