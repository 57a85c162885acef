"""AutogradTape: the Jacobian products of any nn.Module, by automatic differentiation.

    J^T u   one backward pass
    J v     the derivative in u of v . (J^T u), the "double-vjp trick" (Townsend 2017)

Both graphs are built once and kept, so that each product costs one backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.mlp_tape import constant_layer
from rlopt.core.tape import Layer


class AutogradTape:
    """Tape of an arbitrary module; its layer records cover Linear layers."""

    def __init__(self, module: nn.Module, layout: Layout, theta: Tensor, inputs: Tensor):
        self._theta = theta.detach().requires_grad_()
        self.size = layout.size
        self._calls: dict[str, tuple[Tensor, Tensor]] = {}  # Linear's name -> its input, its output
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
        """Records of every Linear layer; a parameter of any other layer is refused by name."""
        covered = {f"{name}.{kind}".lstrip(".") for name in self._calls for kind in ("weight", "bias")}
        rest = [name for name in self._views if name not in covered]
        if rest:
            raise ValueError(
                f"layer statistics exist for Linear layers only; {', '.join(rest)} belong to other layers. "
                "Use a solver that needs only products: cg or dense"
            )
        outputs = [output for _, output in self._calls.values()]
        per_factor = [torch.autograd.grad(self._z, outputs, u, retain_graph=True) for u in signals]
        records = []
        for i, (name, (a, _)) in enumerate(self._calls.items()):
            prefix = f"{name}." if name else ""
            bias = f"{prefix}bias" if f"{prefix}bias" in self._views else None
            a = a.detach().reshape(len(a), -1, a.shape[-1])
            if bias:
                a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], 2)
            d = torch.stack([g[i].reshape(*a.shape[:2], -1) for g in per_factor])
            records.append(Layer(f"{prefix}weight", bias, a, d, self._views[f"{prefix}weight"], None))
        if self._has_constants:
            records.append(constant_layer(signals[..., self._width :]))
        return records

    def _remember(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if name in self._calls:
                raise ValueError(f"layer {name!r} is used twice in one forward pass; rlopt needs each layer used once")
            self._calls[name] = (inputs[0], output)

        return hook
