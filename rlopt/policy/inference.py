"""FrozenPolicy: a network evaluated between the steps of a simulator, in fixed blocks of observations and in numpy.

Blocks: the last bits of a matrix product depend on its number of rows. So every call multiplies BLOCK rows, padded
where there are fewer observations, and an environment keeps its row. Then it gets the same action from the same
observation for any number of workers.

numpy: after a simulator's step the processor's caches no longer hold torch's operators (17-64-64-6 tanh on 8 rows after
8 steps of HalfCheetah: 115 microseconds with torch, 22 with numpy). `numpy_sampler` draws actions in numpy too.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rlopt.core.flat import CONSTANTS
from rlopt.core.heads import Beta, Categorical, DiagonalGaussian, Head, Product
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.core.tapes.activations import Activation
from rlopt.core.tapes.masked import FORBIDDEN
from rlopt.core.tapes.norm import Norm
from rlopt.policy.normalisers import ObservationNormaliser

BLOCK = 8  # rows; 4, 8 and 16 gave the same bits where this was measured, 1 and 2 did not
# multiplications in a block's product; above it numpy's library would use its own threads, and torch is no slower
_SMALL = 2**18
DrawActions = Callable[[np.ndarray, np.ndarray], np.ndarray]  # z (B, O), noise (B, noise_size) -> actions (B, ...)


class _Layer(NamedTuple):
    weight: np.ndarray  # (I, J)
    bias: np.ndarray | None  # (J,)
    normalise_: Callable[[np.ndarray], object] | None
    activate_: Callable[[np.ndarray], object] | None


class FrozenPolicy:
    """A policy whose theta and normaliser do not change while it acts."""

    def __init__(
        self, network: Network, head: Head, normaliser: ObservationNormaliser, theta: Tensor, normaliser_state: State
    ):
        self.network, self.theta = network, theta
        self.shift_and_scale = normaliser.shift_and_scale(normaliser_state, theta.dtype)  # None: no normalisation
        self.width = head.network_outputs + head.constants  # O, outputs of the policy
        self.memory_size = network.memory  # M, numbers carried from one step to the next; 0: none
        self._count = head.constants
        self.clip = normaliser.limit
        self._normalised: np.ndarray | None = None  # memory for normalised observations
        self._hidden: list[np.ndarray] | None = None  # memory for the outputs of each layer
        self._layers: list[_Layer] = []
        self._bind_parameters()

    def __getstate__(self) -> dict[str, Any]:
        """What a process needs that was not forked: the network's plan holds functions without a name."""
        names = ("theta", "shift_and_scale", "width", "clip", "_count", "memory_size")
        kept, network = {name: getattr(self, name) for name in names}, self.network
        own = {"module": network.module, "mask": (network.unread, network.masked), "columns": network.columns}
        return {**kept, **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.network = Network(state.pop("module"), state["_count"], *state.pop("mask"))
        self.network.columns = state.pop("columns")
        vars(self).update(state)
        self._layers = []
        self._bind_parameters()

    def with_parameters(self, theta: Tensor, shift_and_scale: tuple[Tensor, Tensor] | None) -> FrozenPolicy:
        """The same policy with another theta and another normalisation."""
        other = copy(self)
        other.theta, other.shift_and_scale = theta, shift_and_scale
        other._bind_parameters()
        return other

    def alone(self) -> FrozenPolicy:
        """The same policy for rows (E, K) of what its network sees alone."""
        if (columns := self.network.columns) is None:
            return self
        other = copy(self)
        other.network = copy(self.network)
        other.network.columns = None
        if self.shift_and_scale is not None:
            shift, scale = self.shift_and_scale
            other.shift_and_scale = shift[columns], scale[columns]
        other._bind_parameters()
        return other

    def normalise(self, observations: Tensor, out: Tensor) -> Tensor:
        """Raw observations (..., D) -> normalised, written to ``out``."""
        if self.shift_and_scale is None:
            return out.copy_(observations)
        shift, scale = self.shift_and_scale
        return torch.sub(observations, shift, out=out).mul_(scale).clamp_(-self.clip, self.clip)

    def outputs(self, inputs: Tensor, memory: Tensor | None = None) -> Tensor:
        """Normalised observations (E, D) -> z (E, O), without the values of a network that has them too.

        ``memory`` (E, M), which a network with memory needs, becomes the memory after this step.
        """
        count = len(inputs)
        rows = -(-count // BLOCK) * BLOCK
        padded = torch.cat([inputs, inputs.new_zeros(rows - count, inputs.shape[1])])
        out = self.theta.new_empty(rows, self.width)
        if memory is None:
            self._forward(padded.numpy(), out.numpy())
            return out[:count]
        before = torch.cat([memory, memory.new_zeros(rows - count, self.memory_size)]).numpy()
        after = np.empty_like(before)
        self._forward(padded.numpy(), out.numpy(), before, after)
        memory.copy_(torch.from_numpy(after[:count]))
        return out[:count]

    def write_outputs(
        self, raw: np.ndarray, out: np.ndarray, memory: np.ndarray | None = None, after: np.ndarray | None = None
    ) -> None:
        """Raw observations (E, D), E a multiple of BLOCK -> z (E, O), written to ``out``.

        The memory after the step is written to ``after`` (E, M), where the network has one. The bits are those of
        `normalise` and `outputs`.
        """
        if self.shift_and_scale is not None:
            if self._normalised is None or self._normalised.shape != raw.shape:
                self._normalised = np.empty_like(raw)
            x = self._normalised
            np.subtract(raw, self._shift, out=x)
            np.multiply(x, self._scale, out=x)
            np.maximum(x, -self.clip, out=x)
            raw = np.minimum(x, self.clip, out=x)
        self._forward(raw, out, memory, after)

    def _forward(
        self, inputs: np.ndarray, out: np.ndarray, memory: np.ndarray | None = None, after: np.ndarray | None = None
    ) -> None:
        """Normalised observations (E, D), E a multiple of BLOCK -> z (E, O), written to ``out``."""
        if self.network.columns is not None:
            inputs = inputs.take(self.network.columns.numpy(), 1)
        if self.memory_size:
            self._write(self._step(inputs, memory, after), out)
            return
        unread = self.network.unread
        seen = inputs[:, :-unread] if unread else inputs
        if self.network.plan is None:
            self._forward_in_torch(torch.from_numpy(seen), torch.from_numpy(out))
        else:
            self._forward_in_numpy(seen, out)
        if self.network.masked:
            np.copyto(out, FORBIDDEN, where=inputs[:, -unread:] == 0)

    @torch.no_grad()
    def _forward_in_torch(self, inputs: Tensor, out: Tensor) -> None:
        own, constants = self.width - self._count, self.theta[len(self.theta) - self._count :]
        for z, block in zip(out.split(BLOCK), inputs.split(BLOCK), strict=True):
            z[:, :own] = self._module(block)[:, -own:]
            z[:, own:] = constants

    def _forward_in_numpy(self, h: np.ndarray, out: np.ndarray) -> None:
        for layer, s in zip(self._layers, self._allocate(len(h)), strict=True):
            multiply = np.matmul if layer.weight.size * BLOCK <= _SMALL else _multiply_in_torch
            for row in range(0, len(h), BLOCK):
                multiply(h[row : row + BLOCK], layer.weight, out=s[row : row + BLOCK])
            if layer.bias is not None:
                np.add(s, layer.bias, out=s)
            if layer.normalise_:
                layer.normalise_(s)
            if layer.activate_:
                layer.activate_(s)
            h = s
        self._write(h, out)

    def _write(self, h: np.ndarray, out: np.ndarray) -> None:
        """The network's outputs (E, N), without values but with the head's constants, as z (E, O)."""
        out[:, : h.shape[1] - self._skipped] = h[:, self._skipped :]
        if self._constants is not None:
            out[:, h.shape[1] - self._skipped :] = self._constants

    def _allocate(self, rows: int) -> list[np.ndarray]:
        """Memory for the outputs (E, J) of every layer."""
        if self._hidden is None or len(self._hidden[0]) != rows:
            self._hidden = [np.empty((rows, layer.weight.shape[1]), layer.weight.dtype) for layer in self._layers]
        return self._hidden

    def _bind_parameters(self) -> None:
        """Make numpy's views of the parameters."""
        self._normalised = self._hidden = None
        self._shift, self._scale = (x.numpy() for x in self.shift_and_scale or (torch.empty(0), torch.empty(0)))
        if self.memory_size:
            module, of_theta = self.network.module, self.network.layout.views(self.theta)
            self._step = module.acting(of_theta, BLOCK)  # type: ignore[operator]
            constants = of_theta.get(CONSTANTS)
            self._constants = None if constants is None else constants.numpy()
            self._skipped = len(of_theta["outputs.bias"]) + (0 if constants is None else len(constants)) - self.width
            return
        if self.network.plan is None:
            self._module = self._bind_module()
            return
        views = {name: view.numpy() for name, view in self.network.layout.views(self.theta).items()}
        self._layers = [
            _Layer(
                np.ascontiguousarray(views[a.weight].T),
                views[a.bias] if a.bias else None,
                a.norm and _normaliser(a.norm, views),
                a.activation and _activation(a.activation),
            )
            for a in self.network.plan
        ]
        self._constants = views.get(CONSTANTS)
        outputs = self._layers[-1].weight.shape[1] + (0 if self._constants is None else len(self._constants))
        self._skipped = outputs - self.width  # first outputs, which are values

    def _bind_module(self) -> nn.Module:
        """A copy of the module whose parameters are views of theta; a call by names takes twice as long."""
        views, module = self.network.layout.views(self.theta), self.network.module
        memo: dict[int, Any] = {id(p): nn.Parameter(views[name], False) for name, p in module.named_parameters()}
        return deepcopy(module, memo)


def _multiply_in_torch(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    torch.mm(torch.from_numpy(a), torch.from_numpy(b), out=torch.from_numpy(out))


def _normaliser(norm: Norm, views: dict[str, np.ndarray]) -> Callable[[np.ndarray], object]:
    """Layer normalisation of (E, J), in place; each row by itself."""

    def normalise_(s: np.ndarray) -> None:
        count = s.shape[1]
        s -= np.add.reduce(s, 1, keepdims=True) / count
        s /= np.sqrt(np.einsum("ij,ij->i", s, s) / count + norm.eps)[:, None]
        if norm.weight:
            s *= views[norm.weight]
        if norm.bias:
            s += views[norm.bias]

    return normalise_


def _activation(known: Activation) -> Callable[[np.ndarray], object]:
    """In place; by torch's own function where there is none of numpy."""
    return known.in_numpy.apply_ if known.in_numpy else lambda s: known.apply_(torch.from_numpy(s))


def numpy_sampler(head: Head) -> DrawActions:
    """A function that draws what ``head.sample`` draws, in numpy for the most common heads."""
    make: Callable[[Any], DrawActions] = _NUMPY_SAMPLERS.get(type(head), _torch_sampler)
    return make(head)


def _gaussian_sampler(head: DiagonalGaussian) -> DrawActions:
    size, logarithmic, shift = head.size, head.scale == "log_sigma", head.shift
    if head.scale == "softplus":
        return lambda z, noise: z[:, :size] + np.logaddexp(z[:, size:] + shift, 0) * noise

    def draw(z: np.ndarray, noise: np.ndarray) -> np.ndarray:
        scale = z[:, size:] + shift if shift else z[:, size:]
        return z[:, :size] + (np.exp(scale) if logarithmic else scale) * noise

    return draw


def _categorical_sampler(head: Categorical) -> DrawActions:
    last = head.count - 1

    def draw(z: np.ndarray, noise: np.ndarray) -> np.ndarray:
        cumulative = np.exp(z - z.max(1, keepdims=True)).cumsum(1)
        return np.minimum((cumulative <= noise * cumulative[:, -1:]).sum(1), last)

    return draw


def _product_sampler(head: Product) -> DrawActions:
    """Every part's own sampler; the normal noise of a part that takes uniform noise goes through ndtr, as in torch."""
    draws = [numpy_sampler(part) for part in head.parts]
    ends = np.cumsum([part.noise_size for part in head.parts])[:-1]
    normal = [part.noise == "normal" for part in head.parts]

    def draw(z: np.ndarray, noise: np.ndarray) -> np.ndarray:
        drawn = []
        for own, z_i, e, as_it_is in zip(draws, head.split(z), np.split(noise, ends, 1), normal, strict=True):
            e = e if as_it_is else torch.special.ndtr(torch.from_numpy(e)).numpy()
            drawn.append(own(z_i, e).reshape(len(z), -1))
        return np.concatenate(drawn, 1, dtype=z.dtype)

    return draw


def _torch_sampler(head: Head) -> DrawActions:
    return lambda z, noise: head.sample(torch.from_numpy(z), torch.from_numpy(noise)).numpy()


_NUMPY_SAMPLERS: dict[type, Callable[[Any], DrawActions]] = {
    DiagonalGaussian: _gaussian_sampler,
    Categorical: _categorical_sampler,
    Beta: lambda head: head.sample,  # which takes arrays
    Product: _product_sampler,
}
