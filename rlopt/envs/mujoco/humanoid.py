"""Humanoid-v5: walk forwards on two legs; torques and contacts cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor

from rlopt.core.arrays import library
from rlopt.envs.mujoco.task import Array, Physics, Task, between, square_sum


class Humanoid(Task):
    """w_forward v + w_healthy healthy - w_ctrl |u|^2 - c, with v of the centre of mass and c the cost of contacts."""

    reads: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "ctrl", "xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
    contact_forces: ClassVar[bool] = True
    unobserved: ClassVar[int] = 2

    def __init__(self, model: Any, options: SimpleNamespace, dt: float):
        super().__init__(model, options, dt)
        self._mass = model.body_mass.copy()
        self._total = self._mass.sum()

    def prepare(self, like: Tensor) -> None:
        self._mass = torch.as_tensor(self._mass).to(like)

    def place(self, s: Physics) -> Array:
        xp = library(s.xipos)
        along = s.xipos[:, :, 0].T
        return xp.einsum("b,be->e", xp.asarray(self._mass), along) / self._total

    def observe(self, s: Physics) -> Array:
        o, seen = self.options, [s.qpos[:, self._first :], s.qvel]
        for included, part in (
            (o.include_cinert_in_observation, s.cinert[:, 1:]),
            (o.include_cvel_in_observation, s.cvel[:, 1:]),
            (o.include_qfrc_actuator_in_observation, s.qfrc_actuator[:, 6:]),
            (o.include_cfrc_ext_in_observation, s.cfrc_ext[:, 1:]),
        ):
            if included:
                seen.append(part.reshape(len(part), -1))
        return library(s.qpos).concatenate(seen, 1)

    def healthy(self, s: Physics) -> Array:
        """[E] whether the height (m) is within its range."""
        low, high = self.options.healthy_z_range
        return between(low, s.qpos[:, 2], high)

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o = self.options
        pays = o.forward_reward_weight * speed + healthy * o.healthy_reward
        contacts = library(speed).clip(o.contact_cost_weight * square_sum(s.cfrc_ext), *o.contact_cost_range)
        return pays - (o.ctrl_cost_weight * square_sum(s.ctrl) + contacts)
