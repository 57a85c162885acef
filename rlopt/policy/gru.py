"""A network with memory: hidden layers, gated recurrent units (Cho et al. 2014), and a layer to the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import torch

from rlopt.policy.mlp import MLP
from rlopt.policy.recurrent import Memory, Recurrent


@dataclass(frozen=True)
class GRU:
    """Hidden layers of the given widths, then ``size`` gated recurrent units; see rlopt.policy.recurrent."""

    hidden: tuple[int, ...]  # of the encoder; none: the units see the observation itself
    activation: str  # of these
    size: int
    horizon: float  # steps within which the slowest units forget at first, 2 or above
    gain: float  # of the hidden layers' orthogonal weights
    last_gain: float  # of the last layer's

    def __post_init__(self) -> None:
        _ = self._encoder, self._memory  # their options are checked

    @property
    def memory_size(self) -> int:
        """The numbers that are carried from one step to the next."""
        return self._memory.memory_size

    def sees(self, space: gym.Space) -> None:
        """Raise ValueError where the observations are images."""
        self._encoder.sees(space)

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> Recurrent:
        """A network from rows of observations of ``space`` and memory to (B, outputs)."""
        self.sees(space)
        return self._memory.behind_mlp(self._encoder, space, outputs, generator)

    @property
    def _encoder(self) -> MLP:
        return MLP(self.hidden, self.activation, bias=True, gain=self.gain, last_gain=self.last_gain)

    @property
    def _memory(self) -> Memory:
        return Memory("gru", self.size, self.last_gain, self.horizon)
