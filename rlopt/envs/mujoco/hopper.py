"""Hopper-v5: hop forwards without falling."""

from __future__ import annotations

from rlopt.envs.mujoco.task import Array, Physics, between
from rlopt.envs.mujoco.walker2d import Walker2d


class Hopper(Walker2d):
    """The reward of Walker2d; healthy while the other positions and all velocities are within their range as well."""

    def healthy(self, s: Physics) -> Array:
        """[E] whether height (m), angle (rad) and all else are within their ranges."""
        low, high = self.options.healthy_state_range
        inside = between(low, s.qpos[:, 2:], high).all(1) & between(low, s.qvel, high).all(1)
        return inside & super().healthy(s)
