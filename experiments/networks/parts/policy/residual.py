"""A network of one's own: residual layers behind layer normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import torch
from torch import Tensor, nn


class Branch(nn.Module):
    """x + relu(W norm(x) + b)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(self.layer(self.norm(x)))


@dataclass(frozen=True)
class Residual:
    """A linear layer to ``hidden[0]`` units, a branch for each of ``hidden``, and a small last layer."""

    hidden: tuple[int, ...]

    def build(self, observation_space: gymnasium.spaces.Box, outputs: int, generator: torch.Generator) -> nn.Module:
        width = self.hidden[0]
        last = nn.Linear(width, outputs)
        with torch.no_grad():
            last.weight.mul_(0.01)  # as of rlopt's own policies: the first one hardly depends on the state
        first = nn.Linear(observation_space.shape[0], width)
        return nn.Sequential(first, *[Branch(width) for _ in self.hidden], last)
