"""Which environments there are as tensors, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import load_env_creator
from torch import Tensor

from rlopt.envs.observations import describe_kind, describe_space
from rlopt.envs.tensor.acrobot import Acrobot
from rlopt.envs.tensor.adapter import VectorEnvTensors
from rlopt.envs.tensor.cartpole import CartPole
from rlopt.envs.tensor.lqr import LinearQuadratic
from rlopt.envs.tensor.mountain_car_continuous import MountainCarContinuous
from rlopt.envs.tensor.pendulum import Pendulum
from rlopt.envs.tensor.protocol import TensorEnvs, functional
from rlopt.envs.tensor.task import Task, TaskEnvs
from rlopt.errors import UserError

_CLASSIC = "gymnasium.envs.classic_control."
_TASKS: dict[str, Callable[..., Task]] = {  # of environments, by where they are
    f"{_CLASSIC}cartpole:CartPoleEnv": CartPole,
    f"{_CLASSIC}pendulum:PendulumEnv": Pendulum,
    f"{_CLASSIC}acrobot:AcrobotEnv": Acrobot,
    f"{_CLASSIC}continuous_mountain_car:Continuous_MountainCarEnv": MountainCarContinuous,
    "rlopt.tasks.lqr_env:LQREnv": LinearQuadratic,
}
_MEMBERS = ("num_envs", "device", "observation_space", "action_space", "reset", "step", "close")  # of TensorEnvs


def task_of(id: str) -> Callable[..., Task] | None:
    """The task of a registered id; None where there is none, or the id has wrappers of its own."""
    spec = gym.registry.get(id)
    if spec is None or spec.additional_wrappers or not isinstance(spec.entry_point, str):
        return None
    return _TASKS.get(spec.entry_point)


def serves(id: str) -> bool:
    """Whether `make` can be tried: there is a task, or a ``vector_entry_point`` that is not one of Gymnasium's own."""
    spec = gym.registry.get(id)
    if spec is None or spec.vector_entry_point is None:
        return task_of(id) is not None
    return task_of(id) is not None or not str(spec.vector_entry_point).startswith("gymnasium.")


def only_tensors(id: str) -> bool:
    """Whether a registered id has a ``vector_entry_point`` and nothing else."""
    spec = gym.registry.get(id)
    return spec is not None and spec.entry_point is None and spec.vector_entry_point is not None


def make(
    id: str, kwargs: dict[str, Any], count: int, device: torch.device, dtype: torch.dtype, example: gym.Env | None
) -> TensorEnvs:
    """``count`` environments on ``device``. ``example`` is Gymnasium's of the same id, for a task of rlopt's.

    A ``vector_entry_point`` is called with num_envs, device, dtype, with max_episode_steps if the registry has it, and
    with ``kwargs``. Raises UserError where it gives something else than environments that are tensors.
    """
    if not serves(id):
        raise UserError("it has neither a task of rlopt's nor a vector_entry_point of its own; type env.backend=sync")
    spec, task = gym.registry[id], task_of(id)
    if task is not None:
        assert example is not None
        made, limit = task(**{**spec.kwargs, **kwargs}), spec.max_episode_steps
        return TaskEnvs(made, count, device, dtype, limit, example.observation_space, example.action_space)
    point = spec.vector_entry_point
    create: Callable[..., Any] = load_env_creator(point) if isinstance(point, str) else cast(Any, point)
    if spec.max_episode_steps is not None:
        kwargs = {"max_episode_steps": spec.max_episode_steps, **kwargs}
    found = create(num_envs=count, device=device, dtype=dtype, **{**spec.kwargs, **kwargs})
    _check_place(found, count, device)
    if hasattr(found, "single_observation_space"):
        found = VectorEnvTensors(found, device)
    if lacking := [name for name in _MEMBERS if not hasattr(found, name)]:
        raise UserError(
            f"its vector_entry_point gives {describe_kind(found)}, which has no {lacking[0]}; wanted is a "
            "gymnasium.vector.VectorEnv of tensors, or what rlopt.envs.tensor.TensorEnvs has"
        )
    if not isinstance(found.observation_space, gym.spaces.Box):
        raise UserError(f"its observations are of {describe_space(found.observation_space)}; tensors must be of a Box")
    made_of_tensors: TensorEnvs = found
    return made_of_tensors


def _check_place(found: Any, count: int, device: torch.device) -> None:
    """Raise UserError where an entry point made another number of environments, or made them on another device."""
    made, place = getattr(found, "num_envs", count), torch.device(getattr(found, "device", device))
    if made != count:
        raise UserError(
            f"its vector_entry_point made {made} environments where num_envs={count} was asked for; make as many "
            f"as num_envs says, or type env.num_envs={made}"
        )
    other = place.type != device.type or len({place.index, device.index} - {None}) > 1  # cuda is any of the GPUs
    if other:
        raise UserError(
            f"its vector_entry_point made environments on {place}, and the run is on {device}; type device={place}, or "
            "let it make them on its argument device"
        )


def configure(envs: TensorEnvs, stagger: bool, graph: bool) -> None:
    """Let first episodes end at random times with ``stagger``. Raises UserError where an option is not served."""
    if stagger:
        if not isinstance(envs, TaskEnvs) or envs.limit is None:
            raise UserError("env.stagger=true is for rlopt's own tasks with a time limit; leave it out")
        envs.staggered = True
    if graph and envs.device.type != "cuda":
        raise UserError(f"env.graph=true records CUDA's kernels, and device={envs.device} has none; leave it out")
    if graph and not functional(envs):
        raise UserError(
            "env.graph=true is for rlopt's own tasks, tasks made of rlopt.envs.tensor.Task, and environments with "
            "running, draw and advance as in rlopt.envs.tensor.protocol; leave it out"
        )


class OneEnv(gym.Env[Any, Any]):
    """An environment that is a tensor, by itself: what evaluations play where Gymnasium has none of its id."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # declared as in Gymnasium

    def __init__(self, envs: TensorEnvs):
        self._envs, self.observation_space, self.action_space = envs, envs.observation_space, envs.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._given(self._envs.reset(int(self.np_random.integers(2**31)))), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        found = self._envs.step(torch.as_tensor(np.asarray(action))[None].to(self._envs.device))
        return self._given(found.last), float(found.reward), bool(found.terminated), bool(found.truncated), {}

    def close(self) -> None:
        self._envs.close()

    def _given(self, observation: Tensor) -> np.ndarray:
        array = observation[0].detach().cpu().numpy()
        return np.asarray(array.reshape(self.observation_space.shape or ()), self.observation_space.dtype)


def make_one(id: str, kwargs: dict[str, Any]) -> gym.Env:
    """One environment of an id that `only_tensors`, on the processor where that has a choice."""
    env = OneEnv(make(id, kwargs, 1, torch.device("cpu"), torch.float32, None))
    env.spec = gym.registry[id]
    return env
