"""Vector environments for every backend: no info dictionaries, and a word on who is being stepped.

| backend | steps                                                     | after an episode's end    |
|---|---|---|
| sync    | one after another, in the process that acts               | reset in the same step    |
| async   | a process each, Gymnasium's, one synchronisation a step   | reset in the same step    |
| envpool | EnvPool's own environments in C++, on its own threads     | reset by the next step    |

With a reset in the same step a finished episode's last observation comes as ``info["final_obs"]`` and the observation
returned is the next episode's first. A backend that resets on the next step puts transitions that never happened into
a rollout; the collector masks them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, iterate

from rlopt.errors import UserError
from rlopt.rollout.fitting import fitting, number
from rlopt.rollout.replay import Origin, Replayed, Script, origin_of, replay

STEPS, ENVIRONMENT, STOP = range(3)  # a Place: vector steps begun, environment being stepped (-1: none), asked to stop
Place = memoryview  # of three int64, which another process may read


def new_place() -> Place:
    return memoryview(array("q", [0, -1, 0]))


class StepLoop(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv, reset in the same step, with the loop itself cut down to what a rollout needs.

    What `step` and `reset` return is valid until the next call; of infos only ``final_obs`` is kept. ``place`` tells
    the number, counted from ``first``, of the environment that is being stepped.
    """

    def __init__(self, makers: Sequence[Callable[[], gym.Env]], first: int = 0, place: Place | None = None):
        super().__init__(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self._first, self.place = first, new_place() if place is None else place
        self._flat = isinstance(self._observations, np.ndarray)
        space = self.single_observation_space
        self._fit = fitting(space) if isinstance(space, spaces.Box) else _as_it_is
        self.origins: list[Origin | None] = [None] * self.num_envs  # of the episodes that are running

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        for e, (env, own) in enumerate(zip(self.envs, _each(seed, self.num_envs), strict=True)):
            self.place[ENVIRONMENT] = self._first + e
            self.origins[e] = origin_of(env, own)
            self._keep(e, self._fit(env.reset(seed=own, options=options)[0]))
        return self._gathered(), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        place, first, fit = self.place, self._first, self._fit
        rewards, terminations, truncations = self._rewards, self._terminations, self._truncations
        info: dict[str, Any] = {}
        each = actions if isinstance(actions, np.ndarray) else iterate(self.action_space, actions)
        for e, (env, action) in enumerate(zip(self.envs, each, strict=True)):
            place[ENVIRONMENT] = first + e
            observation, reward, terminated, truncated, _ = env.step(action)
            observation, rewards[e] = fit(observation), number(reward)
            terminations[e], truncations[e] = terminated, truncated
            if terminated or truncated:
                if not info:
                    info = {"final_obs": np.full(self.num_envs, None, object)}
                info["final_obs"][e] = copy(observation)  # the reset may write into the same array
                self.origins[e] = origin_of(env)
                observation = fit(env.reset()[0])
            self._keep(e, observation)
        place[ENVIRONMENT] = -1
        return self._gathered(), rewards, terminations, truncations, info

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Bring every environment to where its script ends."""
        found = []
        for e, (env, script) in enumerate(zip(self.envs, scripts, strict=True)):
            self.place[ENVIRONMENT] = self._first + e
            found.append(replay(env, script))
        self.origins = [replayed.origin for replayed in found]
        return found

    def _keep(self, e: int, observation: Any) -> None:
        if self._flat:
            self._observations[e] = observation
        else:
            self._env_obs[e] = observation

    def _gathered(self) -> Any:
        if not self._flat:
            self._observations = concatenate(self.single_observation_space, self._env_obs, self._observations)
        return self._observations


class Processes(AsyncVectorEnv):
    """Gymnasium's AsyncVectorEnv, reset in the same step; an environment that takes longer than ``timeout`` is lost."""

    def __init__(
        self, makers: Sequence[Callable[[], gym.Env]], timeout: float | None, first: int = 0, place: Place | None = None
    ):
        super().__init__(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self._timeout, self._first = timeout, first
        self.place = new_place() if place is None else place
        self._lost = False

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with self._attributed():
            self.reset_async(seed, options)
            return self.reset_wait(self._timeout)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        with self._attributed():
            self.step_async(actions)
            return self.step_wait(self._timeout)

    @property
    def origins(self) -> list[Origin | None]:
        """Of the episodes that are running."""
        with self._attributed():
            self.call_async("origin")
            return list(self.call_wait(self._timeout))

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Bring every environment to where its script ends."""
        with self._attributed():
            self.set_attr("script", list(scripts))
            self.call_async("replay")
            return list(self.call_wait())

    def close(self, **kwargs: Any) -> None:
        """Ends the processes, by force where one of them is lost."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a call was pending
            super().close(**{"timeout": 1, "terminate": self._lost, **kwargs})

    @contextmanager
    def _attributed(self) -> Iterator[None]:
        """Tells in ``place`` which environment an error came from; what Gymnasium logs of it would be said twice."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BaseException as error:
            self._lost = True
            late, dead = isinstance(error, multiprocessing.TimeoutError), isinstance(error, EOFError)
            self.place[ENVIRONMENT] = self._first + self._culprit(late, dead)
            if dead:
                raise RuntimeError("its process died") from error
            if late:
                raise TimeoutError(f"no answer within env.timeout={self._timeout:g} seconds") from error
            raise

    def _culprit(self, late: bool, dead: bool) -> int:
        """The environment whose process has failed or, if that is known, has not answered or is dead."""
        ended = wait([process.sentinel for process in self.processes], 5) if dead else []
        for e, (pipe, process) in enumerate(zip(self.parent_pipes, self.processes, strict=True)):
            if pipe is None or process.sentinel in ended or (late and not pipe.poll()):
                return e
        return 0


class Pool(VectorEnv):
    """EnvPool's environments of the same id, which reset on the next step; made when they are first reset."""

    def __init__(self, id: str, like: gym.Env, num_envs: int, kwargs: dict[str, Any]):
        try:
            self._envpool = self._quietly(lambda: importlib.import_module("envpool"))
        except ImportError as error:
            raise UserError(
                "env.backend=envpool needs a package that is not installed: pip install 'rlopt[envpool]'"
            ) from error
        known = self._envpool.list_all_envs()
        if id not in known:
            raise UserError(f"EnvPool has no env.id={id}; choose env.backend=sync or env.backend=async")
        threads = min(num_envs, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        self._make = partial(self._call, id, {**kwargs, "num_envs": num_envs, "num_threads": threads})
        spec = self._make("make_spec")
        found = self._quietly(lambda: {k: getattr(spec, f"gymnasium_{k}_space") for k in ("observation", "action")})
        for kind, own in (("observation", like.observation_space), ("action", like.action_space)):
            theirs = found[kind]
            if not _alike(own, theirs):
                raise UserError(f"EnvPool's {id} has {kind}s {theirs}, Gymnasium's {own}; choose env.backend=sync")
        self._dtype = next(s.dtype for name, s in spec.action_array_spec.items() if name == "action")
        self._pool: Any = None
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = like.observation_space, like.action_space
        self.observation_space = batch_space(like.observation_space, num_envs)
        self.action_space = batch_space(like.action_space, num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._pool is None or seed is not None:
            seeds = [own or 0 for own in _each(0 if seed is None else seed, self.num_envs)]
            self._pool = self._make("make", env_type="gymnasium", seed=seeds)
        return self._quietly(self._pool.reset)[0], {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        observations, rewards, terminations, truncations, _ = self._pool.step(actions.astype(self._dtype, copy=False))
        return observations, rewards, terminations, truncations, {}

    @property
    def origins(self) -> list[Origin | None]:
        """Its environments do not tell."""
        return [None] * self.num_envs

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Resets them all."""
        observations, _ = self.reset(seed=[script.seed for script in scripts])
        return [Replayed(observation, None, False) for observation in observations]

    def close(self, **kwargs: Any) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _call(self, id: str, common: dict[str, Any], function: str, **more: Any) -> Any:
        """A function of envpool on this environment."""
        try:
            return self._quietly(lambda: getattr(self._envpool, function)(id, **common, **more))
        except Exception as error:
            raise UserError(f"EnvPool cannot make env.id={id}: {' '.join(str(error).split())}") from error

    @staticmethod
    def _quietly(call: Callable[[], Any]) -> Any:
        """Without Gymnasium's warnings on spaces of another precision."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()


def _as_it_is(observation: Any) -> Any:
    return observation


def _each(seed: Any, count: int) -> Sequence[int | None]:
    """A seed for every environment."""
    if seed is None or isinstance(seed, int):
        return [None if seed is None else seed + e for e in range(count)]
    return seed


def _alike(own: gym.Space, theirs: gym.Space) -> bool:
    """Whether the same arrays fit both."""
    if isinstance(own, spaces.Box) and isinstance(theirs, spaces.Box):
        same = own.shape == theirs.shape
        return same and all(np.allclose(getattr(own, b), getattr(theirs, b), 1e-5) for b in ("low", "high"))
    return isinstance(own, spaces.Discrete) and isinstance(theirs, spaces.Discrete) and own.n == theirs.n
