"""Simulation: what is simulated, apart from by what: a task, its model, and how its episodes begin and end."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlopt.envs.mujoco import task_of
from rlopt.envs.mujoco.envs import make_task
from rlopt.envs.mujoco.own import MjcfEnv
from rlopt.envs.mujoco.task import Task
from rlopt.errors import UserError


class Simulation(NamedTuple):
    """Environments of one task."""

    task: Task
    model: Any  # MuJoCo's
    begin: tuple[np.ndarray, np.ndarray]  # positions and velocities around which episodes begin
    frame_skip: int  # MuJoCo's steps within one of the environment
    limit: int | None  # steps after which an episode is truncated; None: never
    observation_space: gym.Space
    action_space: gym.Space


def simulation_of(id: str, example: gym.Env, kwargs: dict[str, Any]) -> Simulation:
    """That of ``example``, which has the registered id and was made with ``kwargs``.

    Raises UserError where it is neither one of Gymnasium's MuJoCo tasks nor a `MjcfEnv`.
    """
    env: Any = example.unwrapped
    task: Task
    limits = [example.spec.max_episode_steps if example.spec else None]
    if isinstance(env, MjcfEnv):
        task, begin = env, env.begin
        limits.append(env.limit)
    elif task_of(id) is not None:
        task, begin = make_task(id, env, kwargs), (env.init_qpos, env.init_qvel)
    else:
        raise UserError(
            "env.backend=warp steps Gymnasium's MuJoCo tasks of version 5, and classes of rlopt.envs.mujoco.MjcfEnv; "
            "this is neither; type env.backend=sync"
        )
    limit = min((n for n in limits if n is not None), default=None)
    spaces = example.observation_space, example.action_space
    return Simulation(task, env.model, begin, env.frame_skip, limit, *spaces)
