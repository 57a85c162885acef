"""AutogradTape: the Jacobian products of any nn.Module, by automatic differentiation.

    J^T u   one backward pass
    J v     the derivative in u of v . (J^T u), the "double-vjp trick" (Townsend 2017)
    hvp     the derivative in theta of v . (J^T u) at this u

All graphs are built once (for hvp, once for each u) and kept, so that each product costs one backward pass.

A network with memory runs through sequences of L rows, see `rlopt.policy.recurrent`. Its products are exact, through
time. Its layer records are of whole sequences: a layer's applications at the L times are its positions, and a signal is
the sum of what all outputs of the sequence send back to that application. `PullBack.layer_mean` says what that means.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.tapes.mlp import constant_layer
from rlopt.core.tapes.tape import Layer


class AutogradTape:
    """Tape of an arbitrary module; its layer records cover Linear and ungrouped Conv2d layers."""

    chain: ClassVar[bool] = False

    def __init__(self, module: nn.Module, layout: Layout, theta: Tensor, inputs: Tensor):
        self._module, self._theta = module, theta.detach().requires_grad_()
        self.layout, self.size = layout, layout.size
        self.sequence = min(getattr(module, "sequence_length", 1), max(len(inputs), 1))
        self._calls: dict[str, list[_Call]] = {}  # by the layer's name
        self._adjoint: tuple[Tensor, Tensor] | None = None
        self._bent: tuple[Tensor, Tensor] | None = None  # the last u of hvp, and J^T u with its graph
        with torch.enable_grad():
            views = layout.views(self._theta)
            constants = views.pop(CONSTANTS, None)
            self._arguments = views, inputs
            # sequences are run again by `layers`, so that who asks for no layers pays for no records of L calls
            z = self._forward() if self.sequence == 1 else functional_call(module, views, (inputs,))
            self._computed, self.width = z, z.shape[1]
            self._z = z if constants is None else torch.cat([z, constants.expand(len(z), -1)], 1)
        self._views = {name: view.detach() for name, view in views.items()}
        self._has_constants = constants is not None
        self.outputs = self._z.detach()

    def _forward(self) -> Tensor:
        """The network's outputs, with a record of every call of a layer."""
        hooks = [
            child.register_forward_hook(self._remember(name))
            for name, child in self._module.named_modules()
            if isinstance(child, nn.Linear) or (isinstance(child, nn.Conv2d) and child.groups == 1)
        ]
        views, inputs = self._arguments
        try:
            z: Tensor = functional_call(self._module, views, (inputs,))
        finally:
            for hook in hooks:
                hook.remove()
        return z

    def jvp(self, v: Tensor) -> Tensor:
        with torch.enable_grad():
            if self._adjoint is None:
                u = torch.zeros_like(self._z, requires_grad=True)
                (g,) = torch.autograd.grad(self._z, self._theta, u, create_graph=True)
                self._adjoint = u, g
            u, g = self._adjoint
            (out,) = torch.autograd.grad(g, u, v, retain_graph=True)
        return out

    def vjp(self, u: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(self._z, self._theta, u, retain_graph=True)
        return g

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        with torch.enable_grad():
            if self._bent is None or self._bent[0] is not u:
                (g,) = torch.autograd.grad(self._z, self._theta, u, create_graph=True)
                self._bent = u, g
            g = self._bent[1]
            if not g.requires_grad:  # z is linear in theta
                return torch.zeros_like(v)
            (out,) = torch.autograd.grad(g, self._theta, v, retain_graph=True, materialize_grads=True)
        return out

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        """Records of every Linear and Conv2d layer; a parameter of any other layer, or of two, is refused by name."""
        if not self._calls and self.sequence > 1:
            with torch.enable_grad():
                self._computed = self._forward()
        names = {name: _parameters(name, call.layer.bias is not None) for name, (call, *_) in self._calls.items()}
        covered = [parameter for pair in names.values() for parameter in pair if parameter]
        others = "A solver that needs products alone has no need of them"
        if rest := [name for name in self._views if name not in covered]:
            raise Incompatible(
                f"layer statistics exist for Linear layers and for Conv2d with groups=1 only; {', '.join(rest)} belong "
                f"to other layers. {others}",
                Remedy.OTHER_SOLVER,
            )
        if tied := [name for name in covered if name not in self._views]:
            reason = f"layer statistics need parameters that no two layers share; {tied[0]} is one. {others}"
            raise Incompatible(reason, Remedy.OTHER_SOLVER)
        order = {name: i for i, name in enumerate(self._views)}
        calls = sorted(self._calls.items(), key=lambda call: order[names[call[0]][0]])
        edges = [call.edge for _, each in calls for call in each]
        ends = signals[..., : self.width]
        per_factor = [torch.autograd.grad(self._computed, edges, u, retain_graph=True) for u in ends]
        records, at = [], 0
        for name, each in calls:
            weight, bias = names[name]
            a = self._positions([_inputs(call.layer, call.inputs.detach()) for call in each])
            if len(a) * self.sequence != len(self._z):
                reason = f"layer statistics need one row per sample; {weight} is given {len(a)} rows. {others}"
                raise Incompatible(reason, Remedy.OTHER_SOLVER)
            sent = [[_signals(call.layer, g[at + i]) for i, call in enumerate(each)] for g in per_factor]
            d, at = torch.stack([self._positions(parts) for parts in sent]), at + len(each)
            records.append(Layer(weight, bias, a, d, self._views[weight].flatten(1), None))
        if self._has_constants:
            records.append(constant_layer(signals[..., self.width :] if constants is None else constants))
        return records

    def _positions(self, parts: list[Tensor]) -> Tensor:
        """One (B / sequence, L, N) of a layer's calls (rows, positions, N), each of all rows or of one time's."""
        x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return x.reshape(-1, self.sequence * x.shape[1], x.shape[2]) if len(x) == len(self._z) else x

    def parts(self, rows: int) -> Iterator[tuple[slice, AutogradTape]]:
        yield slice(None), self

    def theta(self) -> Tensor:
        return self._theta.detach().clone()

    def at(self, theta: Tensor, inputs: Tensor) -> AutogradTape:
        return AutogradTape(self._module, self.layout, theta, inputs)

    def _remember(self, name: str) -> Any:
        def hook(module: nn.Linear | nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name in self._calls and self.sequence == 1:
                raise ValueError(f"layer {name!r} is used twice in one forward pass; rlopt needs each layer used once")
            # the graph's edge stays that of W a + b when an activation then overwrites the output in place
            self._calls.setdefault(name, []).append(_Call(module, inputs[0], get_gradient_edge(output)))

        return hook


class _Call(NamedTuple):
    """A layer, its inputs, and its output's edge in the graph."""

    layer: nn.Linear | nn.Conv2d
    inputs: Tensor
    edge: GradientEdge


def _inputs(layer: nn.Linear | nn.Conv2d, a: Tensor) -> Tensor:
    """(B, L, I): the vectors that the layer's weight (J, I) multiplies, one per position.

    Those of a convolution are the patches under its kernel, each in the order of the weight: channel, row, column.
    """
    if isinstance(layer, nn.Linear):
        return a.reshape(len(a), -1, a.shape[-1])
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    a = nn.functional.pad(a, layer._reversed_padding_repeated_twice, mode)
    return nn.functional.unfold(a, layer.kernel_size, layer.dilation, 0, layer.stride).transpose(1, 2)


def _signals(layer: nn.Linear | nn.Conv2d, d: Tensor) -> Tensor:
    """(B, L, J) from the gradient in the layer's output: (B, ..., J) of Linear, (B, J, H, W) of Conv2d."""
    return d.reshape(len(d), -1, d.shape[-1]) if isinstance(layer, nn.Linear) else d.flatten(2).transpose(1, 2)


def _parameters(name: str, bias: bool) -> tuple[str, str | None]:
    """Names in theta of the weight and the bias of the layer ``name``, which is "" if it is the module."""
    prefix = f"{name}." if name else ""
    return f"{prefix}weight", f"{prefix}bias" if bias else None
