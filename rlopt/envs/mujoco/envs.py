"""MujocoEnvs: E environments of one task, with one model and a state of MuJoCo's for each."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlopt.envs.mujoco.ant import Ant
from rlopt.envs.mujoco.half_cheetah import HalfCheetah
from rlopt.envs.mujoco.hopper import Hopper
from rlopt.envs.mujoco.humanoid import Humanoid
from rlopt.envs.mujoco.humanoid_standup import HumanoidStandup
from rlopt.envs.mujoco.inverted_double_pendulum import InvertedDoublePendulum
from rlopt.envs.mujoco.inverted_pendulum import InvertedPendulum
from rlopt.envs.mujoco.pusher import Pusher
from rlopt.envs.mujoco.reacher import Reacher
from rlopt.envs.mujoco.swimmer import Swimmer
from rlopt.envs.mujoco.task import Array, Physics, Task
from rlopt.envs.mujoco.walker2d import Walker2d
from rlopt.envs.replay import Origin, Replayed, Script, generator_of
from rlopt.envs.vector import ENVIRONMENT, StepCounter, seeds_for

_GYMNASIUM = "gymnasium.envs.mujoco."
_TASKS: dict[str, type[Task]] = {  # Gymnasium's classes, by where they are
    "half_cheetah_v5:HalfCheetahEnv": HalfCheetah,
    "hopper_v5:HopperEnv": Hopper,
    "walker2d_v5:Walker2dEnv": Walker2d,
    "ant_v5:AntEnv": Ant,
    "humanoid_v5:HumanoidEnv": Humanoid,
    "humanoidstandup_v5:HumanoidStandupEnv": HumanoidStandup,
    "swimmer_v5:SwimmerEnv": Swimmer,
    "reacher_v5:ReacherEnv": Reacher,
    "pusher_v5:PusherEnv": Pusher,
    "inverted_pendulum_v5:InvertedPendulumEnv": InvertedPendulum,
    "inverted_double_pendulum_v5:InvertedDoublePendulumEnv": InvertedDoublePendulum,
}


def task_of(id: str) -> type[Task] | None:
    """The task of a registered id; None where it is not one of Gymnasium's, or has wrappers of its own."""
    spec = gym.registry.get(id)
    if spec is None or spec.additional_wrappers or not isinstance(spec.entry_point, str):
        return None
    return _TASKS.get(spec.entry_point.removeprefix(_GYMNASIUM))


def log_warnings() -> None:
    """Send MuJoCo's warnings to logging, but for those about deprecated model files. Nothing where it is missing."""
    if importlib.util.find_spec("mujoco"):
        import mujoco

        mujoco.set_mju_user_warning(_log)


def _log(message: str) -> None:
    if "deprecated" not in message:
        logging.getLogger("mujoco").warning(message)


def make_task(id: str, env: Any, kwargs: dict[str, Any]) -> Task:
    """The task of ``env``, Gymnasium's environment of this id, which ``kwargs`` made."""
    known = inspect.signature(type(env).__init__).parameters
    options = {name: p.default for name, p in known.items() if p.default is not p.empty} | kwargs
    task = task_of(id)
    assert task is not None
    return task(env.model, SimpleNamespace(**options), env.dt)


class MujocoEnvs(VectorEnv):
    """``count`` environments like ``example``, Gymnasium's own of the task ``id``, which ``kwargs`` made.

    They reset in the same step; an info holds ``final_obs`` alone. What `step` and `reset` return is valid until the
    next call. ``counter`` and ``restart`` are those of vector.SyncEnvs.
    """

    def __init__(
        self,
        id: str,
        example: gym.Env,
        kwargs: dict[str, Any],
        count: int,
        first: int = 0,
        counter: StepCounter | None = None,
    ):
        import mujoco

        env: Any = example.unwrapped
        self.task = make_task(id, env, kwargs)
        self._mujoco, self._model, self._frame_skip = mujoco, env.model, env.frame_skip
        self._limit = example.spec.max_episode_steps if example.spec else None
        self._begin = env.init_qpos.copy(), env.init_qvel.copy()
        self._data = [mujoco.MjData(env.model) for _ in range(count)]
        self._controls = [data.ctrl for data in self._data]
        self._parts = {name: [getattr(data, name) for data in self._data] for name in self.task.reads}
        shapes = {name: (count, *views[0].shape) for name, views in self._parts.items()}
        self.physics = Physics(**{name: np.empty(shape) for name, shape in shapes.items()})
        self._flat = [
            (views, getattr(self.physics, name).reshape(-1, *views[0].shape[1:])) for name, views in self._parts.items()
        ]
        self._state_size = mujoco.mj_stateSize(env.model, mujoco.mjtState.mjSTATE_INTEGRATION)
        self._generators = [np.random.default_rng(0)] * count  # those of Gymnasium after the first reset
        self._elapsed = np.zeros(count, np.int64)
        self._places = np.zeros(count)
        self._active = list(enumerate(self._data))

        self.num_envs, self._first, self.counter = count, first, counter or StepCounter()
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.spec, self.single_observation_space = example.spec, example.observation_space
        self.single_action_space = example.action_space
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        self._observations, self._shared = np.zeros(self.observation_space.shape or ()), False  # with the caller
        self.restart: Callable[[int], Any] = self.reset_one
        self.origins: list[Origin | None] = [None] * count  # a state is saved, so no episode is replayed
        self._never = np.zeros(count, bool)

    def write_observations_to(self, array: np.ndarray) -> None:
        """Write observations to this array (E, D), in its type, from now on."""
        self._observations, self._shared = array, True

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        for e, own in enumerate(seeds_for(seed, self.num_envs)):
            self._observations[e] = self.reset_one(e, own)
        return self._observations, {}

    def reset_one(self, e: int, seed: int | None = None) -> np.ndarray:
        """The first observation of a new episode of environment e."""
        self.counter.environment = self._first + e
        if seed is not None:
            self._generators[e], _ = np_random(seed)
        data = self._data[e]
        self._mujoco.mj_resetData(self._model, data)
        data.qpos[:], data.qvel[:] = self.task.draw(self._generators[e], *self._begin)
        self._mujoco.mj_forward(self._model, data)
        self._elapsed[e] = 0
        s = self._gather_one(e)
        self._places[e] = self.task.place(s)[0]
        return self.task.observe(s)[0]

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        self._simulate(actions)
        task, s = self.task, self._gather()
        places, observations = task.place(s), task.observe(s)
        healthy = task.healthy(s)
        rewards = task.reward(s, actions, (places - self._places) / task.dt, healthy)
        terminations = self._never if healthy is None or not task.ends_unhealthy else ~healthy
        self._elapsed += 1
        truncations = self._never if self._limit is None else self._elapsed >= self._limit
        self._places = places.copy()  # it may lie in memory that the next step writes to
        info: dict[str, Any] = {}
        ended = terminations | truncations
        if ended.any():
            info = {"final_obs": np.full(self.num_envs, None, object)}
            for e, _ in list(self._active):
                if ended[e]:
                    info["final_obs"][e] = observations[e].copy()
                    self._continue(e, observations)
        if self._shared:
            self._observations[:] = observations
        else:
            self._observations = observations
        return self._observations, rewards, terminations, truncations, info

    def cut_short(self, e: int) -> None:
        """End the running episode of environment e: it begins the next one, or stays idle."""
        self._continue(e, self._observations)

    def saved_states(self) -> list[dict[str, Any]]:
        """Every environment's state; with it another process goes on as this one would."""
        found = []
        for e, data in enumerate(self._data):
            physics = np.empty(self._state_size)
            self._mujoco.mj_getState(self._model, data, physics, self._mujoco.mjtState.mjSTATE_INTEGRATION)
            generator = dict(self._generators[e].bit_generator.state)
            elapsed, place = int(self._elapsed[e]), float(self._places[e])
            found.append({"physics": physics, "generator": generator, "elapsed": elapsed, "place": place})
        return found

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Put every environment into its script's saved state, or begin a new episode where there is none."""
        return [self._put_back(e, script) for e, script in enumerate(scripts)]

    def _put_back(self, e: int, script: Script) -> Replayed:
        first, saved = self.reset_one(e, script.seed), script.saved or {}
        physics = saved.get("physics")
        if physics is None or len(physics) != self._state_size:
            return Replayed(first, None, False)
        self._mujoco.mj_setState(self._model, self._data[e], physics, self._mujoco.mjtState.mjSTATE_INTEGRATION)
        self._generators[e] = generator_of(saved["generator"])
        self._elapsed[e], self._places[e] = saved["elapsed"], saved["place"]
        return Replayed(script.observation, None, True)

    def _simulate(self, actions: np.ndarray) -> None:
        """One step of every environment that is not idle."""
        step, model, count, forces = self._mujoco.mj_step, self._model, self._frame_skip, self.task.contact_forces
        numbers, first, begun = self.counter.numbers, self._first, time.perf_counter_ns()
        for e, data in self._active:
            numbers[ENVIRONMENT] = first + e
            self._controls[e][:] = actions[e]
            step(model, data, count)
            if forces:
                self._mujoco.mj_rnePostConstraint(model, data)
        numbers[ENVIRONMENT] = -1
        self.counter.physics += time.perf_counter_ns() - begun

    def _gather(self) -> Physics:
        """What the task reads, of all environments."""
        for views, flat in self._flat:
            np.concatenate(views, out=flat)
        return self.physics

    def _gather_one(self, e: int) -> Physics:
        return Physics(**{name: views[e][None] for name, views in self._parts.items()})

    def _continue(self, e: int, observations: Array) -> None:
        """Begin the next episode of environment e and write its first observation, or leave it idle."""
        if (following := self.restart(e)) is None:
            self._active = [(other, data) for other, data in self._active if other != e]
        else:
            observations[e] = following
