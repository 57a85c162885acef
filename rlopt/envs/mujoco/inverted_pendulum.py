"""InvertedPendulum-v5: balance a pole on a cart."""

from __future__ import annotations

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Task


class InvertedPendulum(Task):
    """1 while the pole stands: all is finite and its angle at most 0.2 rad."""

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        return 1.0 * healthy

    def healthy(self, s: Physics) -> Array:
        xp = library(s.qpos)
        return xp.isfinite(s.qpos).all(1) & xp.isfinite(s.qvel).all(1) & (xp.abs(s.qpos[:, 1]) <= 0.2)
