"""Pusher-v5: push a cylinder to a goal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Start, Task, length, square_sum

_TRIES = 32  # places for the cylinder that are drawn at once; 0.38 of them are too near, so that all are in 3e-14


class Pusher(Task):
    """-w_near |object - tip| - w_dist |object - goal| - w_control |a|^2."""

    reads: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "xpos")

    def __init__(self, model: Any, options: SimpleNamespace, dt: float):
        super().__init__(model, options, dt)
        self._tip, self._object, self._goal = (model.body(name).id for name in ("tips_arm", "object", "goal"))

    def observe(self, s: Physics) -> Array:
        bodies = (s.xpos[:, body] for body in (self._tip, self._object, self._goal))
        return library(s.qpos).concatenate((s.qpos[:, :7], s.qvel[:, :7], *bodies), 1)

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o, xpos = self.options, s.xpos
        near = length(xpos[:, self._object] - xpos[:, self._tip])
        distance = length(xpos[:, self._object] - xpos[:, self._goal])
        control = square_sum(actions) * o.reward_control_weight
        return -distance * o.reward_dist_weight - control - near * o.reward_near_weight

    def draw(self, generator: np.random.Generator, qpos: np.ndarray, qvel: np.ndarray) -> Start:
        """The cylinder is uniform in a rectangle, at least 0.17 m from the goal."""
        while True:
            cylinder = np.concatenate([generator.uniform(-0.3, 0, 1), generator.uniform(-0.2, 0.2, 1)])
            if np.linalg.norm(cylinder) > 0.17:
                break
        qpos = qpos.copy()
        qpos[-4:-2], qpos[-2:] = cylinder, 0
        qvel = qvel + generator.uniform(-0.005, 0.005, len(qvel))
        qvel[-4:] = 0
        return qpos, qvel

    @property
    def start_size(self) -> int:
        return 2 * _TRIES + int(self.model.nv)

    def start(self, noise: Tensor, qpos: Tensor, qvel: Tensor) -> tuple[Tensor, Tensor]:
        """The first of many places that is far enough from the goal."""
        across, along, velocities = noise.split([_TRIES, _TRIES, len(qvel)], -1)
        x, y = 0.3 * across - 0.3, 0.4 * along - 0.2
        first = (x * x + y * y > 0.17**2).to(torch.uint8).argmax(-1, keepdim=True)
        cylinder = torch.cat((x.gather(-1, first), y.gather(-1, first)), -1)
        still, goal = torch.zeros_like(cylinder), torch.zeros_like(cylinder)
        arm = qpos[:-4].expand(*noise.shape[:-1], -1)
        speeds = qvel[:-4] + 0.005 * (2 * velocities[..., :-4] - 1)
        return torch.cat((arm, cylinder, goal), -1), torch.cat((speeds, still, still), -1)
