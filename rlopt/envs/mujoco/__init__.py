"""Gymnasium's MuJoCo tasks, version 5, stepped together: all their Python runs once a step, over arrays [E, ...].

`env.backend=mujoco` and, where nothing else is asked for, `env.backend=auto` use it. Physics is MuJoCo's, one call of
``mj_step`` for each environment and step; observations, rewards, ends of episodes and beginnings are those of
Gymnasium's environments to the last bit (`rlopt.envs.mujoco.task`). A state is saved and put back as a whole, so a
resumed run repeats nothing.
"""

from rlopt.envs.mujoco.envs import MujocoEnvs, task_of

__all__ = ["MujocoEnvs", "task_of"]
