"""Multilayer perceptrons with orthogonal initialisation (Saxe et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from rlopt.core.checks import at_least_one, check, positive

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class MLP:
    """Hidden layers of the given widths; none makes the map affine, or linear without ``bias``."""

    hidden: tuple[int, ...]
    activation: str
    bias: bool
    gain: float  # of the hidden layers' orthogonal weights
    last_gain: float  # of the last layer's

    def __post_init__(self) -> None:
        for width in self.hidden:
            at_least_one("hidden", width)
        check(self.activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", self.activation)
        positive("gain", self.gain)
        positive("last_gain", self.last_gain)

    def build(self, inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
        """A network from (B, inputs) to (B, outputs), its weights drawn from ``generator``, its biases 0."""
        layers: list[nn.Module] = []
        width = inputs
        for size in self.hidden:
            layers += [self._linear(width, size, self.gain, generator), ACTIVATIONS[self.activation]()]
            width = size
        layers.append(self._linear(width, outputs, self.last_gain, generator))
        return nn.Sequential(*layers)

    def _linear(self, inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Linear:
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=self.bias)
        nn.init.orthogonal_(layer.weight, gain, generator=generator)
        if self.bias:
            nn.init.zeros_(layer.bias)
        return layer
