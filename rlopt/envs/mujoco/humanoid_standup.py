"""HumanoidStandup-v5: stand up from lying; torques and contacts cost."""

from __future__ import annotations

from rlopt.core.arrays import library
from rlopt.envs.mujoco.humanoid import Humanoid
from rlopt.envs.mujoco.task import Array, Physics, square_sum


class HumanoidStandup(Humanoid):
    """z / timestep - w_ctrl |u|^2 - c + 1, with height z and the cost c of contacts; observations of Humanoid."""

    def place(self, s: Physics) -> Array:
        return s.qpos[:, 2]

    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        o = self.options
        contacts = library(speed).clip(o.impact_cost_weight * square_sum(s.cfrc_ext), *o.impact_cost_range)
        return s.qpos[:, 2] / self.model.opt.timestep - o.ctrl_cost_weight * square_sum(s.ctrl) - contacts + 1

    def healthy(self, s: Physics) -> Array | None:
        return None
