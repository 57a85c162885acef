"""Multilayer perceptrons with orthogonal initialisation (Saxe et al. 2014), and what every network's options offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import gymnasium as gym
import torch
from torch import nn

from rlopt.core.checks import at_least_one, check, positive
from rlopt.envs.observations import image, observation_size

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "leaky_relu": nn.LeakyReLU,
}


class NetworkFactory(Protocol):
    """The options of a network, which build it for the observations of an environment."""

    def sees(self, space: gym.Space) -> None:
        """Raise ValueError, with the reason, where the network cannot take observations of ``space``."""

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> nn.Module:
        """A network from flat observations (B, D) of ``space`` to (B, outputs); ``generator`` draws its weights.

        Raises ValueError, as `sees`, or where an option does not suit the space.
        """


@dataclass(frozen=True)
class MLP:
    """Hidden layers of the given widths. Without any, the map is affine, and linear if it has no ``bias`` either."""

    hidden: tuple[int, ...]
    activation: str
    bias: bool
    gain: float  # of the hidden layers' orthogonal weights
    last_gain: float  # of the last layer's
    layer_norm: bool = False  # between every hidden layer and its activation (Ba, Kiros and Hinton 2016)

    def __post_init__(self) -> None:
        for width in self.hidden:
            at_least_one("hidden", width)
        check(self.activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", self.activation)
        positive("gain", self.gain)
        positive("last_gain", self.last_gain)

    def sees(self, space: gym.Space) -> None:
        """Raise ValueError where the observations are images."""
        if (pixels := image(space)) is not None:
            raise ValueError(f"a multilayer perceptron does not see images; the observations are images, {pixels}")

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> nn.Sequential:
        """A network from observations (B, D) of ``space`` to (B, outputs): weights drawn by ``generator``, biases 0."""
        self.sees(space)
        layers: list[nn.Module] = []
        width = observation_size(space)
        for size in self.hidden:
            layers.append(self._linear(width, size, self.gain, generator))
            layers += [nn.LayerNorm(size)] if self.layer_norm else []
            layers.append(ACTIVATIONS[self.activation]())
            width = size
        layers.append(self._linear(width, outputs, self.last_gain, generator))
        return nn.Sequential(*layers)

    def _linear(self, inputs: int, outputs: int, gain: float, generator: torch.Generator) -> nn.Module:
        # nn.Linear draws weights from torch's global generator; nn.utils.skip_init would not, but imports sympy
        with torch.random.fork_rng(devices=()):
            layer = nn.Linear(inputs, outputs, self.bias)
        return initialise_orthogonal(layer, gain, generator)


def initialise_orthogonal(layer: nn.Module, gain: float, generator: torch.Generator) -> nn.Module:
    """Give ``layer`` an orthogonal weight (J, ...), seen as (J, I), times ``gain``, and a bias of 0 if it has one."""
    nn.init.orthogonal_(layer.weight, gain, generator=generator)  # type: ignore[arg-type]
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
