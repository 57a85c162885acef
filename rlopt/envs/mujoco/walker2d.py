"""Walker2d-v5: walk forwards without falling."""

from __future__ import annotations

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Task, between, square_sum


class Walker2d(Task):
    """w_forward v + w_healthy healthy - w_ctrl |a|^2; healthy while height and angle are within their ranges."""

    def observe(self, s: Physics) -> Array:
        xp = library(s.qpos)
        return xp.concatenate((s.qpos[:, self._first :], xp.clip(s.qvel, -10, 10)), 1)

    def healthy(self, s: Physics) -> Array:
        """[E] whether height (m) and angle (rad) are within their ranges."""
        (low, high), (least, most) = self.options.healthy_z_range, self.options.healthy_angle_range
        return between(low, s.qpos[:, 1], high) & between(least, s.qpos[:, 2], most)

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o = self.options
        pays = o.forward_reward_weight * speed + healthy * o.healthy_reward
        return pays - o.ctrl_cost_weight * square_sum(actions)
