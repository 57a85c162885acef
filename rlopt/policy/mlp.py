"""Multilayer perceptrons with orthogonal initialisation (Saxe et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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

    images: ClassVar[bool] = False

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

    def _linear(self, inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Module:
        with torch.random.fork_rng(devices=()):  # torch draws weights of its own; skip_init would import sympy for none
            layer = nn.Linear(inputs, outputs, self.bias)
        return orthogonal(layer, gain, generator)


def orthogonal(layer: nn.Module, gain: float, generator: torch.Generator) -> nn.Module:
    """``layer`` with an orthogonal weight (J, ...), flattened to (J, I), times ``gain``, and without bias as yet."""
    nn.init.orthogonal_(layer.weight, gain, generator=generator)  # type: ignore[arg-type]
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
