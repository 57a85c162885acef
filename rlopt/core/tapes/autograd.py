"""AutogradTape: the Jacobian products of any nn.Module, by automatic differentiation.

    J^T u   one backward pass
    J v     the derivative in u of v . (J^T u), the "double-vjp trick" (Townsend 2017)
    hvp     the derivative in theta of v . (J^T u) at this u

All graphs are built once (for hvp, once for each u) and kept, so that each product costs one backward pass.

Layer records are those of Linear and Conv2d layers that run once, wherever they stand. Of every other parameter each
sample's own gradient is formed, and recorded as that of a layer whose input is 1: solvers then have an exact dense
block, or its exact diagonal, of each BLOCK of its numbers. So it must be small.

A network with memory runs through sequences of L rows, see `rlopt.policy.recurrent`. Its products are exact, through
time. Its layer records are of whole sequences: a layer's applications at the L times are its positions, and a signal is
the sum of what all outputs of the sequence send back to that application. `PullBack.layer_mean` says what that means.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.tapes.mlp import constant_layer
from rlopt.core.tapes.tape import Layer
from rlopt.errors import in_one_line

MOST = 4096  # numbers of a parameter whose gradients are formed sample by sample
BLOCK = 512  # of these numbers are one layer, and so one dense block where a solver has any
_SAMPLES = 256  # whose gradients are formed at a time


class AutogradTape:
    """Tape of an arbitrary module; see above for its layer records. Samples mix within sequences alone."""

    chain: ClassVar[bool] = False

    def __init__(self, module: nn.Module, layout: Layout, theta: Tensor, inputs: Tensor):
        self._module, self._theta, self._inputs = module, theta.detach().requires_grad_(), inputs
        self.layout, self.size = layout, layout.size
        self.sequence = min(getattr(module, "sequence_length", 1), max(len(inputs), 1))
        self._calls: dict[str, list[_Call]] = {}  # by the layer's name
        self._bent: tuple[Tensor, Tensor] | None = None  # the last u of hvp, and J^T u with its graph
        with torch.enable_grad():
            views = layout.views(self._theta)
            constants = views.pop(CONSTANTS, None)
            self._arguments = views, inputs
            # sequences are run again by `layers`, so that who asks for no layers pays for no records of L calls
            z = self._forward() if self.sequence == 1 else call_module(module, views, inputs)
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
        try:
            return call_module(self._module, *self._arguments)
        finally:
            for hook in hooks:
                hook.remove()

    def jvp(self, v: Tensor) -> Tensor:
        u, g = self._adjoint
        (out,) = torch.autograd.grad(g, u, v, retain_graph=True)
        return out

    @cached_property
    def _adjoint(self) -> tuple[Tensor, Tensor]:
        """u (B, O) and J^T u with its graph in u."""
        with torch.enable_grad():
            u = torch.zeros_like(self._z, requires_grad=True)
            (g,) = torch.autograd.grad(self._z, self._theta, u, create_graph=True)
        return u, g

    def vjp(self, u: Tensor) -> Tensor:
        (g,) = torch.autograd.grad(self._z, self._theta, u, retain_graph=True)
        return g

    def jvps(self, V: Tensor) -> Tensor:
        u, g = self._adjoint
        return _batched(g, u, V.t())

    def vjps(self, U: Tensor) -> Tensor:
        return _batched(self._z, self._theta, U).t()

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
        """See `Tape.layers`; raises Incompatible, with its name, where another layer's parameter is too large."""
        order, ends = {name: i for i, name in enumerate(self._views)}, signals[..., : self.width]
        if self.sequence > 1:
            records = self._sequence_layers(ends)
        else:
            calls = {name: each[0] for name, each in self._calls.items() if self._is_served(name, each, order)}
            records = self._affine_layers(calls, ends)
        covered = {name for layer in records for name in (layer.weight_name, layer.bias_name)}
        if rest := [name for name in self._views if name not in covered]:
            self._check_small(rest)
            for name, gradients in self._sample_gradients(rest, ends).items():
                pieces = gradients.split(BLOCK, 2)
                names = [name] if len(pieces) == 1 else [f"{name}[{i * BLOCK}:]" for i in range(len(pieces))]
                order |= dict.fromkeys(names, order[name])
                records += [constant_layer(piece, own) for piece, own in zip(pieces, names, strict=True)]
        records.sort(key=lambda layer: order[layer.weight_name])
        if self._has_constants:
            records.append(constant_layer(signals[..., self.width :] if constants is None else constants))
        return records

    def _is_served(self, name: str, calls: list[_Call], order: dict[str, int]) -> bool:
        """Whether a Linear or Conv2d layer ran once, on one row a sample, with parameters that no other layer has."""
        call = calls[0]
        weight, bias = _parameters(name, call.layer.bias is not None)
        own = weight in order and (bias is None or order.get(bias) == order[weight] + 1)
        return own and len(calls) == 1 and len(call.inputs) == len(self._z) and not _tied(self._module) & {weight, bias}

    def _affine_layers(self, calls: dict[str, _Call], ends: Tensor) -> list[Layer]:
        """Records of the layers that ``calls`` name, for signals (K, B, width)."""
        edges = [call.edge for call in calls.values()]
        per_factor = (
            [torch.autograd.grad(self._computed, edges, u, retain_graph=True, allow_unused=True) for u in ends]
            if edges
            else []
        )
        records = []
        for i, (name, call) in enumerate(calls.items()):
            weight, bias = _parameters(name, call.layer.bias is not None)
            sent = [self._computed.new_zeros(call.shape) if g[i] is None else g[i] for g in per_factor]
            d = torch.stack([_signals(call.layer, g) for g in sent])
            a = _inputs(call.layer, call.inputs.detach())
            records.append(Layer(weight, bias, a, d, self._views[weight].flatten(1), None))
        return records

    def _sequence_layers(self, ends: Tensor) -> list[Layer]:
        """Records of a network with memory, all of whose parameters must be of Linear and Conv2d layers."""
        if not self._calls:
            with torch.enable_grad():
                self._computed = self._forward()
        names = {name: _parameters(name, call.layer.bias is not None) for name, (call, *_) in self._calls.items()}
        covered = {parameter for pair in names.values() for parameter in pair if parameter}
        if rest := [name for name in self._views if name not in covered] + sorted(_tied(self._module) & covered):
            raise Incompatible(
                "layer statistics of a network with memory exist for Linear layers and for Conv2d with groups=1 that "
                f"share no parameters; {', '.join(rest)} belong to others",
                Remedy.OTHER_SOLVER,
            )
        edges = [call.edge for each in self._calls.values() for call in each]
        per_factor = [torch.autograd.grad(self._computed, edges, u, retain_graph=True) for u in ends]
        records, at = [], 0
        for name, each in self._calls.items():
            weight, bias = names[name]
            a = self._positions([_inputs(call.layer, call.inputs.detach()) for call in each])
            if len(a) * self.sequence != len(self._z):
                reason = f"layer statistics need one row per sample; {weight} is given {len(a)} rows"
                raise Incompatible(reason, Remedy.OTHER_SOLVER)
            sent = [[_signals(call.layer, g[at + i]) for i, call in enumerate(each)] for g in per_factor]
            d, at = torch.stack([self._positions(parts) for parts in sent]), at + len(each)
            records.append(Layer(weight, bias, a, d, self._views[weight].flatten(1), None))
        return records

    def _positions(self, parts: list[Tensor]) -> Tensor:
        """One (B / sequence, L, N) of a layer's calls (rows, positions, N), each of all rows or of one time's."""
        x = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        return x.reshape(-1, self.sequence * x.shape[1], x.shape[2]) if len(x) == len(self._z) else x

    def _check_small(self, names: list[str]) -> None:
        """Raise Incompatible where one of these parameters has too many numbers to form its samples' gradients."""
        large = [f"{name} of {self._views[name].numel()}" for name in names if self._views[name].numel() > MOST]
        if large:
            raise Incompatible(
                "layer statistics exist for Linear layers and for Conv2d with groups=1 that run once, on one row a "
                f"sample, and for other parameters of at most {MOST} numbers; not for {', '.join(large)}",
                Remedy.OTHER_SOLVER,
            )

    def _sample_gradients(self, names: list[str], ends: Tensor) -> dict[str, Tensor]:
        """Each sample's own gradient (K, B, p) of these parameters, for signals (K, B, width)."""
        moving = {name: self._views[name] for name in names}
        fixed = {name: view for name, view in self._views.items() if name not in moving}

        def of_one(x: Tensor, u: Tensor) -> dict[str, Tensor]:
            """x (...), u (K, width) -> (K, p)."""
            back = vjp(lambda own: call_module(self._module, {**fixed, **own}, x[None])[0], moving)[1]
            found: dict[str, Tensor] = vmap(lambda one: back(one)[0])(u)
            return found

        try:
            found = vmap(of_one, (0, 1), 1, chunk_size=_SAMPLES)(self._inputs, ends)
        except (RuntimeError, ValueError) as error:
            raise Incompatible(
                f"{', '.join(names)} are of no Linear or Conv2d layer, and torch.func.vmap cannot form their gradients "
                f"sample by sample: {in_one_line(error)}",
                Remedy.OTHER_SOLVER,
            ) from error
        return {name: gradient.detach().flatten(2) for name, gradient in found.items()}

    def parts(self, rows: int) -> Iterator[tuple[slice, AutogradTape]]:
        yield slice(None), self

    def take(self, index: Tensor) -> AutogradTape:
        return self.at(self._theta, self._inputs[index])

    def theta(self) -> Tensor:
        return self._theta.detach().clone()

    def at(self, theta: Tensor, inputs: Tensor) -> AutogradTape:
        return AutogradTape(self._module, self.layout, theta, inputs)

    def _remember(self, name: str) -> Any:
        def hook(module: nn.Linear | nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # the graph's edge stays that of W a + b when an activation then overwrites the output in place
            call = _Call(module, inputs[0], get_gradient_edge(output), output.shape)
            self._calls.setdefault(name, []).append(call)

        return hook


def call_module(module: nn.Module, parameters: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """The module's outputs (B, O) with these parameters, on the inputs' device.

    Attention takes torch's plain kernel, since the fused ones have no second derivatives.
    """
    others = {name: b.to(inputs.device) for name, b in module.named_buffers() if b.device != inputs.device}
    with sdpa_kernel(SDPBackend.MATH):
        outputs: Tensor = functional_call(module, {**parameters, **others}, (inputs,))
    return outputs


def _batched(outputs: Tensor, inputs: Tensor, vectors: Tensor) -> Tensor:
    """The gradient in ``inputs`` for each of the vectors (r, ...) of the outputs, at once where torch can vectorise it.

    It cannot where a module has an autograd.Function of its own that looks at numbers, for example.
    """
    try:
        (found,) = torch.autograd.grad(outputs, inputs, vectors, retain_graph=True, is_grads_batched=True)
    except RuntimeError:
        every = [torch.autograd.grad(outputs, inputs, vector, retain_graph=True)[0] for vector in vectors]
        return torch.stack(every)
    return found


def _tied(module: nn.Module) -> set[str]:
    """Names of the parameters that have another name too."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {name for same in names.values() if len(same) > 1 for name in same}


class _Call(NamedTuple):
    """A layer, its inputs, and its output's edge in the graph and shape."""

    layer: nn.Linear | nn.Conv2d
    inputs: Tensor
    edge: GradientEdge
    shape: torch.Size


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
