"""Pendulum-v1: swing a pendulum up and hold it, with little torque."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlopt.envs.tensor.task import Task

_SECONDS, _FASTEST, _STRONGEST = 0.05, 8.0, 2.0


class Pendulum(Task):
    """State (angle, angular velocity), of which cosine, sine and velocity are seen; -(angle^2 + ...) for every step."""

    start_size = 2

    def __init__(self, g: float = 10.0):
        self._gravity = g

    def start(self, noise: Tensor) -> Tensor:
        drawn = 2 * noise - 1
        return torch.cat((math.pi * drawn[..., :1], drawn[..., 1:]), -1)

    def observe(self, state: Tensor) -> Tensor:
        angle, spin = state.unbind(-1)
        return torch.stack((angle.cos(), angle.sin(), spin), -1)

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        angle, spin = state.unbind(1)
        torque = actions[:, 0].clamp(-_STRONGEST, _STRONGEST)
        from_top = torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
        cost = from_top * from_top + 0.1 * spin * spin + 0.001 * torque * torque
        spin = spin + (1.5 * self._gravity * angle.sin() + 3.0 * torque) * _SECONDS
        spin = spin.clamp(-_FASTEST, _FASTEST)
        following = torch.stack((angle + spin * _SECONDS, spin), 1)
        return following, -cost, torch.zeros_like(cost, dtype=torch.bool)
