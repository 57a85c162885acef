"""Reacher-v5: bring the tip of an arm to a target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Start, Task, length, square_sum


class Reacher(Task):
    """-w_dist |tip - target| - w_control |a|^2."""

    reads: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "xpos")

    def __init__(self, model: Any, options: SimpleNamespace, dt: float):
        super().__init__(model, options, dt)
        self._tip, self._target = model.body("fingertip").id, model.body("target").id

    def observe(self, s: Physics) -> Array:
        xp, angles = library(s.qpos), s.qpos[:, :2]
        apart = self._apart(s)[:, :2]
        return xp.concatenate((xp.cos(angles), xp.sin(angles), s.qpos[:, 2:], s.qvel[:, :2], apart), 1)

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o, distance = self.options, length(self._apart(s))
        return -distance * o.reward_dist_weight - square_sum(actions) * o.reward_control_weight

    def draw(self, generator: np.random.Generator, qpos: np.ndarray, qvel: np.ndarray) -> Start:
        """The target is uniform within a circle of 0.2 m."""
        qpos = generator.uniform(-0.1, 0.1, len(qpos)) + qpos
        while np.linalg.norm(target := generator.uniform(-0.2, 0.2, 2)) >= 0.2:
            pass
        qpos[-2:] = target
        qvel = qvel + generator.uniform(-0.005, 0.005, len(qvel))
        qvel[-2:] = 0
        return qpos, qvel

    def start(self, noise: Tensor, qpos: Tensor, qvel: Tensor) -> tuple[Tensor, Tensor]:
        positions, velocities = noise.split([len(qpos), len(qvel)], -1)
        arm = qpos[:-2] + 0.1 * (2 * positions[..., :-2] - 1)
        radius, angle = 0.2 * positions[..., -2].sqrt(), 2 * torch.pi * positions[..., -1]
        target = torch.stack((radius * angle.cos(), radius * angle.sin()), -1)
        speeds = qvel[:-2] + 0.005 * (2 * velocities[..., :-2] - 1)
        return torch.cat((arm, target), -1), torch.cat((speeds, torch.zeros_like(target)), -1)

    def _apart(self, s: Physics) -> Array:
        """[E, 3] from the target to the tip, in metres."""
        return s.xpos[:, self._tip] - s.xpos[:, self._target]
