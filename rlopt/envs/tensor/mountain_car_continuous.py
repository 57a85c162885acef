"""MountainCarContinuous-v0: rock a car out of a valley (Moore 1990)."""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.envs.tensor.task import Task

_POWER, _SLOPE, _FASTEST = 0.0015, 0.0025, 0.07
_LEFT, _RIGHT, _GOAL = -1.2, 0.6, 0.45  # positions


class MountainCarContinuous(Task):
    """State and observation (position, velocity); 100 at the goal, less 0.1 force^2 for every step.

    Gymnasium rounds the state to float32 after every step; this is rounded to the run's type.
    """

    start_size = 1

    def __init__(self, goal_velocity: float = 0):
        self._goal_velocity = goal_velocity

    def start(self, noise: Tensor) -> Tensor:
        return torch.cat((0.2 * noise - 0.6, torch.zeros_like(noise)), -1)

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        position, velocity = state.unbind(1)
        action = actions[:, 0]
        velocity = velocity + (action.clamp(-1, 1) * _POWER - _SLOPE * (3 * position).cos())
        velocity = velocity.clamp(-_FASTEST, _FASTEST)
        position = (position + velocity).clamp(_LEFT, _RIGHT)
        velocity = torch.where((position == _LEFT) & (velocity < 0), 0.0, velocity)
        there = (position >= _GOAL) & (velocity >= self._goal_velocity)
        reward = 100.0 * there.to(state.dtype) - 0.1 * action * action
        return torch.stack((position, velocity), 1), reward, there
