"""InvertedDoublePendulum-v5: balance two poles, one on the other, on a cart."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Task


class InvertedDoublePendulum(Task):
    """w_healthy while the tip is above 1 m, minus its distance from the top and the speeds of both joints, squared."""

    reads: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "qfrc_constraint", "site_xpos")
    draw, start = Task.draw_normal, Task.start_normal

    def observe(self, s: Physics) -> Array:
        xp, angles = library(s.qpos), s.qpos[:, 1:]
        clipped = (xp.clip(x, -10, 10) for x in (s.qvel, s.qfrc_constraint[:, :1]))
        return xp.concatenate((s.qpos[:, :1], xp.sin(angles), xp.cos(angles), *clipped), 1)

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        distance = 0.01 * _square(s.site_xpos[:, 0, 0]) + _square(s.site_xpos[:, 0, 2] - 2)
        velocity = 1e-3 * _square(s.qvel[:, 1]) + 5e-3 * _square(s.qvel[:, 2])
        return self.options.healthy_reward * healthy - distance - velocity

    def healthy(self, s: Physics) -> Array:
        return ~(s.site_xpos[:, 0, 2] <= 1)


def _square(x: Array) -> Array:
    """x^2. Gymnasium squares numbers by C's pow, whose last bit is neither that of x * x nor of arrays' power."""
    return np.array([each**2 for each in x]) if isinstance(x, np.ndarray) else x * x
