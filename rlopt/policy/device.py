"""DevicePolicy: a frozen policy that acts on the device where its parameters are, on all environments at once.

On the processor activations are numpy's, whose tanh takes a sixth of the time of torch's; the outputs are then those of
the network's tape to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from rlopt.core.flat import CONSTANTS
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.policy.normalisers import ObservationNormaliser

_ROWS = 2048  # of inputs at a time on the processor, in whose cache a layer's units then stay

# weight (I, J), bias (J,) and activation of a layer
_Layer = tuple[Tensor, Tensor | None, Callable[[np.ndarray], object] | None]


class DevicePolicy:
    """A policy whose theta and normaliser do not change while it acts. `inference.FrozenPolicy` is the host's."""

    def __init__(
        self, network: Network, head: Head, normaliser: ObservationNormaliser, theta: Tensor, normaliser_state: State
    ):
        self.network, self.theta = network, theta
        self.width = head.network_outputs + head.constants  # O, outputs of the policy
        self.clip = normaliser.limit
        self._layers, self._constants = _on_host(network, theta), network.views(theta).get(CONSTANTS)
        found = normaliser.shift_and_scale(normaliser_state, theta.dtype)
        self.shift_and_scale = None if found is None else (found[0].to(theta.device), found[1].to(theta.device))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What another update changes: theta, and the normaliser's shift and scale if it has them."""
        return self.theta, *(self.shift_and_scale or ())

    def holding(self, tensors: Sequence[Tensor]) -> DevicePolicy:
        """The same policy with other `tensors`, which are read at every call, by the network's own operators."""
        made = copy(self)
        made.theta, made.shift_and_scale = tensors[0], (tensors[1], tensors[2]) if len(tensors) > 1 else None
        made._layers = None
        return made

    def normalise(self, observations: Tensor, out: Tensor) -> Tensor:
        """Raw observations (..., D), of any type -> normalised, written to ``out``."""
        out.copy_(observations)
        if self.shift_and_scale is None:
            return out
        shift, scale = self.shift_and_scale
        return out.sub_(shift).mul_(scale).clamp_(-self.clip, self.clip)

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> Tensor:
        """Normalised observations (B, D) -> z (B, O), without the values of a network that has them too."""
        inputs = self.network.select(inputs)
        if self._layers is None:
            return self.network.outputs(self.theta, inputs)[:, -self.width :]
        z = inputs.new_empty(len(inputs), self.width)
        computed = self.width - (0 if self._constants is None else len(self._constants))
        for rows, h in zip(z.split(_ROWS), inputs.split(_ROWS), strict=True):
            for weight, bias, apply_ in self._layers:
                h = torch.mm(h, weight) if bias is None else torch.addmm(bias, h, weight)
                if apply_:
                    apply_(h.numpy())
            rows[:, :computed] = h[:, h.shape[1] - computed :]
        if self._constants is not None:
            z[:, computed:] = self._constants
        return z


def _on_host(network: Network, theta: Tensor) -> list[_Layer] | None:
    """The layers of a chain on the processor whose activations numpy has; None for another network."""
    known = network.plan is not None and theta.is_cpu and not network.unread
    if not known or any(a.norm or (a.activation and not a.activation.in_numpy) for a in network.plan or ()):
        return None
    views = network.views(theta)
    return [
        (
            views[a.weight].t(),
            views[a.bias] if a.bias else None,
            a.activation.in_numpy.apply_ if a.activation and a.activation.in_numpy else None,
        )
        for a in network.plan or ()
    ]
