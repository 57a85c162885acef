"""Vector environments step E environments together, without info dictionaries: here SyncEnvs.

| env.backend | how it steps                                              | after the end of an episode |
|---|---|---|
| sync        | one environment after another, in the process that acts  | resets in the same step     |
| mujoco      | Gymnasium's MuJoCo tasks as arrays (rlopt.envs.mujoco)   | resets in the same step     |
| envpool     | EnvPool's environments in C++ (rlopt.envs.pool)          | resets in the next step     |
| tensor      | tensors on the run's device (rlopt.envs.tensor)          | resets in the same step     |
| warp        | MuJoCo models on the run's device (rlopt.envs.warp)      | resets in the same step     |
| auto        | mujoco where it serves the environment, tensor where an  |                             |
|             | id has nothing else, sync elsewhere                      |                             |

Steps per second of envpool against sync, on 2 cores that others used too: HalfCheetah 0.6 with 8 environments and 0.8
with 16, CartPole 0.5 with 8 and 2.5 with 64.

With a reset in the same step, the last observation of a finished episode comes as ``info["final_obs"]``, and the
observation returned is the first of the next episode. A reset in the next step adds transitions that never happened;
the sampler masks them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlopt.envs.changes import change
from rlopt.envs.observations import number_of
from rlopt.envs.replay import Change, Origin, Replayed, Script, origin_of, replay, save
from rlopt.errors import EnvironmentFault
from rlopt.parallel.processes import shared_zeros

_STEP, ENVIRONMENT, _STOP, _REPLAY, _PHYSICS = range(5)  # indices of a StepCounter's numbers


def _number(index: int) -> Any:
    """A property that reads and writes one of a StepCounter's numbers."""
    return property(lambda self: self.numbers[index], lambda self, value: self.numbers.__setitem__(index, value))


class StepCounter:
    """Which environment is being stepped, and how far it is: five numbers that another process may read and write.

    The watchdog compares two ``snapshot``s to see whether an environment is stuck.
    """

    step: int = _number(_STEP)  # vector steps begun since the run began
    environment: int = _number(ENVIRONMENT)  # number, over the whole run, of the one being stepped; -1: none
    stop_requested: int = _number(_STOP)  # 1: end the rollout before its next step
    physics: int = _number(_PHYSICS)  # nanoseconds within the simulator, where the backend measures them
    replay_calls: int = _number(_REPLAY)  # calls made so far while an episode is replayed; 0: no replay

    def __init__(self, shared: bool = False):
        """With ``shared``, worker processes see the same numbers."""
        self._set(shared_zeros((5,), torch.int64) if shared else torch.zeros(5, dtype=torch.int64))
        self.environment = -1

    def _set(self, memory: torch.Tensor) -> None:
        self._memory, self.numbers = memory, memoryview(memory.numpy())  # type: ignore[arg-type]  # a view is faster

    def __getstate__(self) -> torch.Tensor:
        return self._memory

    def __setstate__(self, memory: torch.Tensor) -> None:
        self._set(memory)

    def snapshot(self) -> list[int]:
        return self.numbers.tolist()

    def describe(self) -> str:
        """The environment that is being stepped and its step, as the subject of an error message."""
        name = f"environment {self.environment}" if self.environment >= 0 else "the environment"
        if self.replay_calls:
            return f"{name}, while its episode was replayed,"
        return f"{name}, at its {f'step {self.step:,}' if self.step else 'first reset'},"


class SyncEnvs(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv with a shorter loop: it resets in the same step and drops infos but ``final_obs``.

    What `step` and `reset` return is valid until the next call. ``counter.environment`` is the number, counted from
    ``first``, of the environment that is being stepped. ``restart(e)``, which may be replaced, begins the next
    episode of environment e and returns its first observation, or None to leave the environment idle; it resets. All
    environments must have the observation and action space ``like``, by default those of the first. ``info`` names
    entries of their infos to keep, see rlopt.rollout.infos.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], gym.Env]],
        first: int = 0,
        counter: StepCounter | None = None,
        like: tuple[gym.Space, gym.Space] | None = None,
        info: Sequence[str] = (),
    ):
        made = _make_alike(makers, first, like)
        super().__init__([partial(made.pop, 0)] * len(makers), copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
        self.spec = self.envs[0].spec
        self._first, self.counter = first, counter or StepCounter()
        self.restart: Callable[[int], Any] = self.reset_one
        self._active = list(enumerate(self.envs))
        self.origins: list[Origin | None] = [None] * self.num_envs  # of the present episodes
        self._info = tuple(info)
        self.infos = np.full((self.num_envs, len(info)), np.nan)  # [E, K] those entries of the last step's infos

    def write_observations_to(self, array: np.ndarray) -> None:
        """Write observations to this array (E, ...), in its type, from now on."""
        self._observations = array

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        for e, (env, own) in enumerate(zip(self.envs, seeds_for(seed, self.num_envs), strict=True)):
            self.counter.environment = self._first + e
            self.origins[e] = origin_of(env, own)
            self._observations[e] = env.reset(seed=own, options=options)[0]
        return self._observations, {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        numbers, first, observations = self.counter.numbers, self._first, self._observations
        rewards, terminations, truncations = self._rewards, self._terminations, self._truncations
        info: dict[str, Any] = {}
        for e, env in self._active:
            numbers[ENVIRONMENT] = first + e
            observation, rewards[e], terminated, truncated, told = env.step(actions[e])
            if self._info:
                self.infos[e] = [number_of(told, name) for name in self._info]
            if terminated or truncated:
                if not info:
                    info = {"final_obs": np.full(self.num_envs, None, object)}
                info["final_obs"][e] = copy(observation)  # the reset may write into the same array
                if (following := self.restart(e)) is None:
                    self._active = [(other, env) for other, env in self._active if other != e]
                else:
                    observation = following
            observations[e], terminations[e], truncations[e] = observation, terminated, truncated
        numbers[ENVIRONMENT] = -1
        return observations, rewards, terminations, truncations, info

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Bring every environment to the end of its script."""

        def count() -> None:
            self.counter.replay_calls += 1

        found = []
        for e, (env, script) in enumerate(zip(self.envs, scripts, strict=True)):
            self.counter.environment = self._first + e
            found.append(replay(env, script, count))
        self.origins = [replayed.origin for replayed in found]
        return found

    def change(self, changes: Sequence[Change]) -> None:
        """Make these changes in every environment, see envs/changes.py."""
        for what in changes:
            for e, env in enumerate(self.envs):
                self.counter.environment = self._first + e
                change(env, what)

    def cut_short(self, e: int) -> None:
        """End the running episode of environment e: it begins the next one, or stays idle."""
        if (following := self.restart(e)) is None:
            self._active = [(other, env) for other, env in self._active if other != e]
        else:
            self._observations[e] = following

    def saved_states(self) -> list[dict[str, Any] | None]:
        """Every environment's own state; None for one that has no ``state()``. See envs/replay.py."""
        found = []
        for e, env in enumerate(self.envs):
            self.counter.environment = self._first + e
            found.append(save(env))
        return found

    def reset_one(self, e: int, seed: int | None = None) -> Any:
        """The first observation of a new episode of environment e."""
        self.origins[e] = origin_of(self.envs[e], seed)
        return self.envs[e].reset(seed=seed)[0]


def _make_alike(
    makers: Sequence[Callable[[], gym.Env]], first: int, like: tuple[gym.Space, gym.Space] | None
) -> list[gym.Env]:
    """The environments. Raises EnvironmentFault where one has other spaces, or other bounds, than ``like``."""
    made: list[gym.Env] = []
    try:
        for e, make in enumerate(makers):
            made.append(env := make())
            found = env.observation_space, env.action_space
            like = like or found
            for kind, own, wanted in zip(("observations", "actions"), found, like, strict=True):
                if own != wanted:
                    shown = [" ".join(str(space).split()) for space in (own, wanted)]
                    raise EnvironmentFault(
                        f"environment {first + e} has {kind} of {shown[0]}, and the first one that was made has "
                        f"{shown[1]}; all of a run must have the same spaces and bounds"
                    )
    except BaseException:
        for env in made:
            env.close()
        raise
    return made


def seeds_for(seed: Any, count: int) -> Sequence[int | None]:
    """One seed for every environment."""
    if seed is None or isinstance(seed, int):
        return [None if seed is None else seed + e for e in range(count)]
    return seed
