"""Ant-v5: walk forwards on four legs; torques and contacts cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Task, square_sum


class Ant(Task):
    """w_forward v + w_healthy healthy - w_ctrl |a|^2 - w_contact |f|^2, contact forces f clipped to a range."""

    reads: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "xpos", "cfrc_ext")
    contact_forces: ClassVar[bool] = True
    unobserved: ClassVar[int] = 2
    draw, start = Task.draw_normal, Task.start_normal

    def __init__(self, model: Any, options: SimpleNamespace, dt: float):
        super().__init__(model, options, dt)
        self._body = model.body(options.main_body).id

    def place(self, s: Physics) -> Array:
        return s.xpos[:, self._body, 0]

    def observe(self, s: Physics) -> Array:
        seen = [s.qpos[:, self._first :], s.qvel]
        if self.options.include_cfrc_ext_in_observation:
            seen.append(self._forces(s)[:, 1:].reshape(len(s.qpos), -1))
        return library(s.qpos).concatenate(seen, 1)

    def healthy(self, s: Physics) -> Array:
        """[E] whether the state is finite and the height (m) within its range."""
        xp, (low, high) = library(s.qpos), self.options.healthy_z_range
        finite = xp.isfinite(s.qpos).all(1) & xp.isfinite(s.qvel).all(1)
        return finite & (low <= s.qpos[:, 2]) & (s.qpos[:, 2] <= high)

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o = self.options
        pays = speed * o.forward_reward_weight + healthy * o.healthy_reward
        return pays - (o.ctrl_cost_weight * square_sum(actions) + o.contact_cost_weight * square_sum(self._forces(s)))

    def _forces(self, s: Physics) -> Array:
        """[E, bodies, 6] contact forces and torques, clipped."""
        return library(s.cfrc_ext).clip(s.cfrc_ext, *self.options.contact_force_range)
