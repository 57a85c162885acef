"""Sizes: how many contacts and constraints MuJoCo Warp is to have room for, measured by a dry run of MuJoCo in C.

Memory and time on the GPU grow with both, and no step can make more room. `env.nconmax` is the number of contacts of an
environment, on average over all of them: pairs of geoms whose bounding spheres meet, and contacts, each have one such
array in common. `env.njmax` is the number of constraint rows of an environment, which no single one may exceed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from rlopt.envs.warp.simulation import Simulation

_EPISODES, _STEPS = 8, 60  # of the dry run
_MARGIN, _LEAST, _MULTIPLE = 2, 8, 8


class Sizes(NamedTuple):
    """Room for contacts, and for constraint rows, of each environment."""

    nconmax: int
    njmax: int


def dry_run(simulation: Simulation, pairs: np.ndarray) -> Sizes:
    """Sizes with a margin: twice the most that episodes with random actions take, of single steps and held for ten.

    ``pairs`` (P, 2) are the geoms that may collide. The same model gives the same sizes.
    """
    import mujoco

    task, model, generator = simulation.task, simulation.model, np.random.default_rng(0)
    qpos, qvel = (torch.as_tensor(x) for x in simulation.begin)
    low, high = model.actuator_ctrlrange.T if model.actuator_ctrllimited.all() else (-1.0, 1.0)
    data, contacts, rows = mujoco.MjData(model), 0, 0
    for episode in range(_EPISODES):
        mujoco.mj_resetData(model, data)
        noise = torch.as_tensor(generator.random(task.start_size))
        data.qpos[:], data.qvel[:] = task.start(noise, qpos, qvel)
        for t in range(_STEPS):
            if episode % 2 or t % 10 == 0:
                data.ctrl[:] = generator.uniform(low, high, model.nu)
            for _ in range(simulation.frame_skip):
                mujoco.mj_step(model, data)
                contacts = max(contacts, data.ncon, _near(model, data, pairs))
                rows = max(rows, data.nefc)
    return Sizes(roomy(contacts), roomy(rows))


def roomy(most: int) -> int:
    """Room where ``most`` were needed: twice as many, and a few more."""
    return -(-(_MARGIN * most + _LEAST) // _MULTIPLE) * _MULTIPLE


def _near(model: Any, data: Any, pairs: np.ndarray) -> int:
    """How many of the pairs (P, 2) of geoms meet by their bounding spheres; a plane has none, and meets all."""
    if not len(pairs):
        return 0
    radius = model.geom_rbound[pairs]
    margin = model.geom_margin[pairs].max(1)
    apart = np.linalg.norm(data.geom_xpos[pairs[:, 0]] - data.geom_xpos[pairs[:, 1]], axis=1)
    return int(((radius == 0).any(1) | (apart <= radius.sum(1) + margin)).sum())
