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
import time
import warnings
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from multiprocessing.connection import wait
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import _async_worker
from gymnasium.vector.utils import batch_space

from rlopt.envs.replay import Origin, Replayed, Script, origin_of, replay
from rlopt.envs.wrappers import check_flags, check_reward, observation_check
from rlopt.errors import EnvironmentFault, UserError
from rlopt.parallel import processes as child

# entries of a StepCounter: vector steps begun; environment being stepped (-1: none); 1 if asked to stop; calls made
# while an episode is replayed (0: none is)
STEPS, ENVIRONMENT, STOP, REPLAYED = range(4)
StepCounter = memoryview  # of four int64, which another process may read
PART = 0.05  # seconds of a replay in another process between two signs of life


def new_step_counter() -> StepCounter:
    return memoryview(array("q", [0, -1, 0, 0]))


def described(place: StepCounter) -> str:
    """The environment that is being stepped, and its step."""
    name = f"environment {place[ENVIRONMENT]}" if place[ENVIRONMENT] >= 0 else "the environment"
    if place[REPLAYED]:
        return f"{name}, while its episode was replayed,"
    return f"{name}, at its {f'step {place[STEPS]:,}' if place[STEPS] else 'first reset'},"


class SyncEnvs(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv, reset in the same step, with the loop itself cut down to what a rollout needs.

    What `step` and `reset` return is valid until the next call; of infos only ``final_obs`` is kept. ``place`` tells
    the number, counted from ``first``, of the environment that is being stepped.
    """

    def __init__(self, makers: Sequence[Callable[[], gym.Env]], first: int = 0, place: StepCounter | None = None):
        super().__init__(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self._first, self.place = first, new_step_counter() if place is None else place
        self._fit = observation_check(self.single_observation_space)  # type: ignore[arg-type]  # `boxed`
        self.origins: list[Origin | None] = [None] * self.num_envs  # of the episodes that are running

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        for e, (env, own) in enumerate(zip(self.envs, _each(seed, self.num_envs), strict=True)):
            self.place[ENVIRONMENT] = self._first + e
            self.origins[e] = origin_of(env, own)
            self._observations[e] = self._fit(env.reset(seed=own, options=options)[0])
        return self._observations, {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        place, first, fit, observations = self.place, self._first, self._fit, self._observations
        rewards, terminations, truncations = self._rewards, self._terminations, self._truncations
        info: dict[str, Any] = {}
        for e, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            place[ENVIRONMENT] = first + e
            observation, reward, terminated, truncated, _ = env.step(action)
            observation, rewards[e] = fit(observation), check_reward(reward)
            if check_flags(terminated, truncated):
                if not info:
                    info = {"final_obs": np.full(self.num_envs, None, object)}
                info["final_obs"][e] = copy(observation)  # the reset may write into the same array
                self.origins[e] = origin_of(env)
                observation = fit(env.reset()[0])
            observations[e], terminations[e], truncations[e] = observation, terminated, truncated
        place[ENVIRONMENT] = -1
        return observations, rewards, terminations, truncations, info

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Bring every environment to where its script ends."""
        found = []
        for e, (env, script) in enumerate(zip(self.envs, scripts, strict=True)):
            self.place[ENVIRONMENT] = self._first + e
            for at in replay(env, script):
                self.place[REPLAYED] += 1
                if at is not None:
                    found.append(at._replace(observation=self._fit(at.observation)))
        self.origins = [replayed.origin for replayed in found]
        return found


class Processes(AsyncVectorEnv):
    """Gymnasium's AsyncVectorEnv, reset in the same step; an environment that takes longer than ``timeout`` is lost.

    What an environment raises comes as the EnvironmentFault that its process has made of it (_WithoutInfo).
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], gym.Env]],
        timeout: float | None,
        first: int = 0,
        place: StepCounter | None = None,
    ):
        self._timeout, self._first = timeout, first
        self.place = new_step_counter() if place is None else place
        self.parent_pipes, self.processes = [], []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that repeat what is raised
                super().__init__(makers, copy=False, autoreset_mode=AutoresetMode.SAME_STEP, worker=_serve)
        except BaseException as error:
            self.close()
            if isinstance(error, EOFError | ConnectionError):
                raise EnvironmentFault("the process of an environment ended while that was made") from error
            raise

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
            found: list[Any] = [None]
            while None in found:
                self.call_async("replay")
                found = list(self.call_wait(self._timeout and self._timeout + PART))
            return found

    def close(self, **kwargs: Any) -> None:
        """Ends the processes, in the middle of a step too."""
        if self.closed:
            return
        self.closed = True
        pipes = [pipe for pipe in self.parent_pipes if pipe is not None]
        for pipe in pipes:
            with suppress(OSError):  # it is dead
                pipe.send(("close", None))
        child.end(self.processes)
        for pipe in pipes:
            pipe.close()

    @contextmanager
    def _attributed(self) -> Iterator[None]:
        """Says of a fault which environment's it is, and when; what Gymnasium logs of it would be said twice."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except EnvironmentFault as fault:
            said = f"{self._culprit(lambda pipe, process: pipe is None)} {fault}"
            raise EnvironmentFault(said) from fault
        except multiprocessing.TimeoutError as error:
            where = self._culprit(lambda pipe, process: not pipe.poll(), kill=True)
            said = f"{where} has not come back for env.timeout={self._timeout:g} seconds"
            raise EnvironmentFault(said) from error
        except (EOFError, ConnectionError) as error:
            time.sleep(0.1)  # a signal to the whole group is for this process too, which is then not at fault
            wait([process.sentinel for process in self.processes], 5)
            process = next((process for process in self.processes if not process.is_alive()), self.processes[0])
            where = self._culprit(lambda pipe, other: other is process, kill=True)
            raise EnvironmentFault(f"{where} was lost: its process {child.fate(process)}") from error

    def _culprit(self, guilty: Callable[[Any, Any], bool], kill: bool = False) -> str:
        """The environment to whose pipe and process this applies, as `place` then has it."""
        pairs = zip(self.parent_pipes, self.processes, strict=True)
        e = next((e for e, pair in enumerate(pairs) if guilty(*pair)), 0)
        self.place[ENVIRONMENT] = self._first + e
        if kill:
            self.processes[e].kill()
        return described(self.place)


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


def _serve(
    index: int, make: Callable[[], gym.Env], pipe: Any, parents: Any, memory: Any, errors: Any, *more: Any
) -> None:
    """The life of a process with one environment."""
    child.settle()
    try:
        _async_worker(index, make, pipe, parents, memory, errors, *more)
    except Exception as error:  # when it was made
        errors.put((index, UserError, str(error), ""))
        with suppress(EOFError, OSError):
            pipe.recv()  # of what spaces it has
            pipe.send((None, False))


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
