"""Vector environments of Gymnasium's MuJoCo tasks, and actions for them."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np

from rlopt.envs.mujoco import MujocoEnvs
from rlopt.envs.spec import EnvSpec
from rlopt.envs.vector import SyncEnvs


def make(id: str, backend: str, count: int, **kwargs: object) -> SyncEnvs | MujocoEnvs:
    envs = EnvSpec("a task", id, count, backend, None, dict(kwargs)).make_vector()
    assert isinstance(envs, SyncEnvs | MujocoEnvs)
    return envs


def random_actions(envs: SyncEnvs | MujocoEnvs, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    generator, space = np.random.default_rng(seed), envs.single_action_space
    assert isinstance(space, gym.spaces.Box)
    return lambda _: generator.uniform(space.low, space.high, (envs.num_envs, *space.shape)).astype(np.float32)
