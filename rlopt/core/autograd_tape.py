"""AutogradTape: the Jacobian products of any nn.Module, by automatic differentiation.

    J^T u   one backward pass
    J v     the derivative in u of v . (J^T u), the "double-vjp trick" (Townsend 2017)

Both graphs are built once and kept, so that each product costs one backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.mlp_tape import constant_layer
from rlopt.core.tape import Layer


class AutogradTape:
    """Tape of an arbitrary module; its layer records cover Linear layers."""

    def __init__(self, module: nn.Module, layout: Layout, theta: Tensor, inputs: Tensor):
        self._theta = theta.detach().requires_grad_()
        self.size = layout.size
        # Linear's name -> its input, its output's place in the graph, whether it has a bias
        self._calls: dict[str, tuple[Tensor, GradientEdge, bool]] = {}
        self._adjoint: tuple[Tensor, Tensor] | None = None
        with torch.enable_grad():
            views = layout.views(self._theta)
            constants = views.pop(CONSTANTS, None)
            hooks = [
                child.register_forward_hook(self._remember(name))
                for name, child in module.named_modules()
                if isinstance(child, nn.Linear)
            ]
            try:
                z = functional_call(module, views, (inputs,))
            finally:
                for hook in hooks:
                    hook.remove()
            self._width = z.shape[1]
            self._z = z if constants is None else torch.cat([z, constants.expand(len(z), -1)], 1)
        self._views = {name: view.detach() for name, view in views.items()}
        self._has_constants = constants is not None
        self.outputs = self._z.detach()

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

    def layers(self, signals: Tensor) -> list[Layer]:
        """Records of every Linear layer; a parameter of any other layer, or of two, is refused by name."""
        names = {name: _parameters(name, bias) for name, (_, _, bias) in self._calls.items()}
        covered = [parameter for pair in names.values() for parameter in pair if parameter]
        advice = "Use a solver that needs only products: cg or dense"
        if rest := [name for name in self._views if name not in covered]:
            raise ValueError(
                f"layer statistics exist for Linear layers only; {', '.join(rest)} belong to other layers. {advice}"
            )
        if tied := [name for name in covered if name not in self._views]:
            raise ValueError(f"layer statistics need parameters that no two layers share; {tied[0]} is one. {advice}")
        order = {name: i for i, name in enumerate(self._views)}
        calls = sorted(self._calls.items(), key=lambda call: order[names[call[0]][0]])
        edges = [edge for _, (_, edge, _) in calls]
        per_factor = [torch.autograd.grad(self._z, edges, u, retain_graph=True) for u in signals]
        records = []
        for i, (name, (a, _, _)) in enumerate(calls):
            weight, bias = names[name]
            a = a.detach().reshape(len(a), -1, a.shape[-1])
            if bias:
                a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], 2)
            d = torch.stack([g[i].reshape(*a.shape[:2], -1) for g in per_factor])
            records.append(Layer(weight, bias, a, d, self._views[weight], None))
        if self._has_constants:
            records.append(constant_layer(signals[..., self._width :]))
        return records

    def _remember(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name in self._calls:
                raise ValueError(f"layer {name!r} is used twice in one forward pass; rlopt needs each layer used once")
            # the graph's edge stays that of W a + b when an activation then overwrites the output in place
            self._calls[name] = (inputs[0], get_gradient_edge(output), module.bias is not None)

        return hook


def _parameters(name: str, bias: bool) -> tuple[str, str | None]:
    """Names in theta of the weight and the bias of the Linear layer ``name``, which is "" if it is the module."""
    prefix = f"{name}." if name else ""
    return f"{prefix}weight", f"{prefix}bias" if bias else None
