"""MuJoCo Warp beside MuJoCo in C: environments of a task, and how far their trajectories are apart."""

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from torch import Tensor

from rlopt.envs.warp import Simulation, WarpEnvs, simulation_of

CPU = torch.device("cpu")
MOMENTS = (1, 10, 50, 100)  # steps after which trajectories are compared


def simulation(task: str, **kwargs: Any) -> Simulation:
    example = gym.make(f"{task}-v5", **kwargs)
    kwargs.pop("max_episode_steps", None)
    return simulation_of(f"{task}-v5", example, kwargs)


def make(task: str, count: int, **kwargs: Any) -> WarpEnvs:
    return WarpEnvs(simulation(task, **kwargs), count, CPU)


def actions_for(envs: WarpEnvs, seed: int = 0) -> Any:
    """A function without arguments that draws actions (E, A) within their bounds."""
    generator, space = torch.Generator().manual_seed(seed), envs.action_space
    assert isinstance(space, gym.spaces.Box)
    low, high = torch.as_tensor(space.low), torch.as_tensor(space.high)
    return lambda: low + (high - low) * torch.rand(envs.num_envs, *space.shape, generator=generator)


class InC:
    """One environment of the same model in MuJoCo in C, from a state of its own."""

    def __init__(self, simulation: Simulation, qpos: Tensor, qvel: Tensor, solver: int | None = None):
        self.simulation, self.model = simulation, simulation.model
        if solver is not None:
            self.model.opt.solver = solver
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:], self.data.qvel[:] = qpos.double(), qvel.double()
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: np.ndarray) -> None:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, self.simulation.frame_skip)
        if self.simulation.task.contact_forces:
            mujoco.mj_rnePostConstraint(self.model, self.data)

    def physics(self) -> Any:
        """What the task reads, [1, ...] in float64."""
        return {name: getattr(self.data, name)[None].copy() for name in self.simulation.task.reads}


def apart(
    task: str,
    count: int = 16,
    solver: int | None = None,
    moments: tuple[int, ...] = MOMENTS,
    cone: int | None = None,
) -> dict[str, Any]:
    """How far positions are apart after so many steps: the largest of an environment, median and worst of all.

    ``warp`` is MuJoCo Warp from C, both from the same states in float32 and by the same random actions without the end
    of an episode; ``c`` is C from C begun 1e-6 away. ``solver`` is another for C than the model's, ``cone`` one for both.
    """
    one = simulation(task)
    if cone is not None:
        one.model.opt.cone = cone
    one.task.ends_unhealthy = False
    envs = WarpEnvs(one._replace(limit=None), count, CPU)
    envs.reset(0)
    qpos, qvel = envs.state()["qpos"].clone(), envs.state()["qvel"].clone()
    nudge = 1e-6 * (2 * torch.rand(qpos.shape, generator=torch.Generator().manual_seed(1)) - 1)
    theirs = [InC(one, *row, solver) for row in zip(qpos, qvel, strict=True)]
    nudged = [InC(one, *row, solver) for row in zip(qpos + nudge, qvel, strict=True)]
    draw, found = actions_for(envs), {}
    for t in range(1, max(moments) + 1):
        actions = draw()
        envs.step(actions)
        for e, action in enumerate(actions.double().numpy()):
            theirs[e].step(action)
            nudged[e].step(action)
        if t in moments:
            wanted = np.stack([each.data.qpos for each in theirs])
            others = np.stack([each.data.qpos for each in nudged])
            errors = {
                name: np.abs(x - wanted).max(1)
                for name, x in (("warp", envs.state()["qpos"].double().numpy()), ("c", others))
            }
            found[t] = {name: (float(np.median(x)), float(x.max())) for name, x in errors.items()}
    envs.check()
    return found
