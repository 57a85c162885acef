"""HalfCheetah-v5: run forwards; the torques cost."""

from __future__ import annotations

from rlopt.envs.mujoco.task import Array, Physics, Task, square_sum


class HalfCheetah(Task):
    """w_forward v - w_ctrl |a|^2. Episodes end by the time limit alone."""

    draw, start = Task.draw_normal, Task.start_normal

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o = self.options
        return o.forward_reward_weight * speed - o.ctrl_cost_weight * square_sum(actions)
