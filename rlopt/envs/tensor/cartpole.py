"""CartPole-v0 and -v1: a pole on a cart (Barto, Sutton and Anderson 1983), by Euler's method."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlopt.envs.tensor.task import Task

_GRAVITY, _FORCE, _SECONDS = 9.8, 10.0, 0.02
_POLE, _TOTAL, _HALF_LENGTH = 0.1, 1.1, 0.5  # masses, and half the pole's length
_FARTHEST, _STEEPEST = 2.4, 12 * 2 * math.pi / 360


class CartPole(Task):
    """State and observation (position, velocity, angle, angular velocity); 1 for every step, up to the fall."""

    start_size = 4

    def __init__(self, sutton_barto_reward: bool = False):
        self._only_falls_count = sutton_barto_reward

    def start(self, noise: Tensor) -> Tensor:
        return 0.1 * noise - 0.05

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, speed, angle, spin = state.unbind(1)
        force = (actions.to(state.dtype) * 2 - 1) * _FORCE
        cos, sin = angle.cos(), angle.sin()
        push = (force + _POLE * _HALF_LENGTH * spin * spin * sin) / _TOTAL
        spin_up = (_GRAVITY * sin - cos * push) / (_HALF_LENGTH * (4.0 / 3.0 - _POLE * cos * cos / _TOTAL))
        speed_up = push - _POLE * _HALF_LENGTH * spin_up * cos / _TOTAL
        change = torch.stack((speed, speed_up, spin, spin_up), 1)
        following = state + _SECONDS * change
        fallen = (following[:, 0].abs() > _FARTHEST) | (following[:, 2].abs() > _STEEPEST)
        reward = -fallen.to(state.dtype) if self._only_falls_count else torch.ones_like(x)
        return following, reward, fallen
