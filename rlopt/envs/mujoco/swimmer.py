"""Swimmer-v5: swim forwards; the torques cost."""

from __future__ import annotations

from typing import ClassVar

from rlopt.envs.mujoco.task import Array, Physics, Task, square_sum


class Swimmer(Task):
    """w_forward v - w_ctrl |a|^2. Episodes end by the time limit alone."""

    unobserved: ClassVar[int] = 2

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o = self.options
        return o.forward_reward_weight * speed - o.ctrl_cost_weight * square_sum(actions)
