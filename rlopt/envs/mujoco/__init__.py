"""Gymnasium's MuJoCo tasks, version 5, stepped together: all their Python runs once a step, over arrays [E, ...].

`env.backend=mujoco` and, where nothing else is asked for, `env.backend=auto` use it. Physics is MuJoCo's, one call of
``mj_step`` for each environment and step; observations, rewards, ends of episodes and beginnings are those of
Gymnasium's environments to the last bit (`rlopt.envs.mujoco.task`). A state is saved and put back as a whole, so a
resumed run repeats nothing. `rlopt.envs.mujoco.own` is for a model of one's own.
"""

from rlopt.envs.mujoco.envs import MujocoEnvs, log_warnings, task_of
from rlopt.envs.mujoco.own import MjcfEnv

__all__ = ["MjcfEnv", "MujocoEnvs", "log_warnings", "task_of"]
