"""Environments: which one, how it is made, and what is said when it cannot be made or fails."""

from __future__ import annotations

import difflib
import importlib.util
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

import rlopt.tasks  # noqa: F401  # registers rlopt's own environments
from rlopt.core.checks import at_least_one, between, check
from rlopt.envs.replay import Origin, Replayed, Script, origin_of, replay, reproducible
from rlopt.envs.spaces import flatten_observations
from rlopt.envs.vector import PART, Pool, Processes, StepCounter, SyncEnvs
from rlopt.envs.watchdog import watched
from rlopt.envs.wrappers import check_flags, check_reward, guard, observation_check
from rlopt.errors import EnvironmentFault, UserError, first_line

_EXTRAS = {  # where an environment's code lives -> the extra that brings what it needs
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.classic_control": "classic",
}
_warned: set[str] = set()  # ids whose version Gymnasium may have called old: once is enough
_left: dict[str, bool] = {}  # ids of which one could not be closed -> whether it hung
BACKENDS = ("sync", "async", "envpool")


@dataclass(frozen=True)
class Environment:
    """Which environment, and how many side by side (a total over workers and ranks)."""

    name: str
    id: str
    num_envs: int
    backend: str  # sync, async or envpool
    timeout: float | None  # seconds that one may take over a step, a reset, its start or its end; None: for ever
    kwargs: dict[str, Any]  # passed to gymnasium.make

    def __post_init__(self) -> None:
        at_least_one("num_envs", self.num_envs)
        check(self.backend in BACKENDS, "backend", " or ".join(BACKENDS), self.backend)
        if self.timeout is not None:
            between("timeout", self.timeout, 0.01, 1e6)  # timers take no more

    def make(self, render_mode: str | None = None) -> gym.Env:
        """One environment, its observations a Box; raises UserError where that cannot be, saying what to do instead."""
        env = self._make(render_mode)
        try:
            return flatten_observations(env)
        except UserError as error:
            env.close()
            raise UserError(f"env.id={self.id}: {error}") from error

    def reproducible(self) -> bool:
        """Whether a resumed run can go on in the middle of its episodes, tried on two environments."""
        if self.backend == "envpool":
            return False
        pair = self.make(), self.make()
        try:
            with watched(lambda: None, self.timeout, lambda: f"env.id={self.id}, when it was tried,"):
                return reproducible(*pair)
        finally:
            for env in pair:
                env.close()

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Observations and actions as the environment has them itself, before observations are flattened."""
        env = self._make(None)
        env.close()
        return env.observation_space, env.action_space

    def _make(self, render_mode: str | None) -> gym.Env:
        with watched(lambda: None, self.timeout, lambda: f"env.id={self.id}, when it was made,"):
            env = self._made(render_mode)
        closes = env.close
        env.close = lambda: self._close(closes)  # type: ignore[method-assign]  # whoever closes it
        return env

    def _close(self, closes: Callable[[], None]) -> None:
        """Close an environment; one that fails in that, or hangs, is left as it is, and the first one is told of."""
        if _left.get(self.id):
            return
        described = f"env.id={self.id}, when it was closed,"
        try:
            with watched(lambda: None, self.timeout, lambda: described), guard(lambda: described):
                closes()
        except EnvironmentFault as fault:
            if self.id not in _left:
                with suppress(OSError, ValueError):  # a terminal that is gone
                    print(f"rlopt: {fault}; it is left as it is", file=sys.stderr)
            _left[self.id] = fault.__cause__ is None  # the watchdog's

    def _made(self, render_mode: str | None) -> gym.Env:
        try:
            self._quieten_mujoco()
            with warnings.catch_warnings():
                if self.id in _warned:
                    warnings.filterwarnings("ignore", ".* is out of date", DeprecationWarning)
                _warned.add(self.id)
                return gym.make(self.id, render_mode=render_mode, disable_env_checker=True, **self.kwargs)
        except gym.error.DependencyNotInstalled as error:
            raise UserError(f"env.id={self.id} needs a package that is not installed: {self._advice(error)}") from error
        except ImportError as error:
            if self.id.count(":"):
                raise UserError(f"env.id={self.id}: {error}") from error
            raise UserError(f"env.id={self.id} needs a package that is not installed: {self._advice(error)}") from error
        except gym.error.DeprecatedEnv as error:
            raise UserError(f"env.id={self.id}: {error}") from error
        except gym.error.Error as error:
            near = difflib.get_close_matches(self.id, list(gym.registry), n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            if self.id not in gym.registry and ":" not in self.id:
                hint += "; one of your own needs --extensions DIR or --import MODULE"
            said = first_line(error).partition(" Did you mean")[0].rstrip(".")
            raise UserError(f"env.id={self.id}: {said}{hint}") from error
        except EnvironmentFault:  # it hangs
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # whatever its constructor raises
            said = first_line(error) if isinstance(error, Exception) else f"{type(error).__name__} {error}".strip()
            raise UserError(f"env.kwargs={self.kwargs} do not suit env.id={self.id}: {said}") from error

    def make_vector(self, first: int = 0, count: int | None = None, place: StepCounter | None = None) -> VectorEnv:
        """``count`` environments (all by default) stepped together; observations are valid until the next step.

        ``place`` is told the number, from ``first`` on, of the environment that is being stepped.
        """
        count = self.num_envs if count is None else count
        if self.backend == "envpool":
            like = self.make()
            like.close()
            return Pool(self.id, like, count, self.kwargs)
        if self.backend == "async":
            return Processes([self._without_info] * count, self.timeout, first, place)
        return SyncEnvs([self.make] * count, first, place)

    def _without_info(self) -> gym.Env:
        return _WithoutInfo(self.make())

    def _advice(self, error: Exception) -> str:
        for prefix, extra in _EXTRAS.items():
            if self._module.startswith(prefix):
                return f"pip install 'rlopt[{extra}]'"
        return first_line(error)

    def _quieten_mujoco(self) -> None:
        """Keeps MuJoCo's notes on deprecated model files off the terminal; its other warnings go to logging."""
        if self._module.startswith("gymnasium.envs.mujoco") and importlib.util.find_spec("mujoco"):
            import mujoco

            mujoco.set_mju_user_warning(_mujoco_warning)

    @property
    def _module(self) -> str:
        spec = gym.registry.get(self.id)
        return str(spec.entry_point) if spec else ""


class _WithoutInfo(gym.Wrapper):
    """Drops info, which Gymnasium would send between processes and merge; checks the rest before it is sent."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self._fit = observation_check(env.observation_space)  # type: ignore[arg-type]  # `flatten_observations`
        self._faults = guard()
        self.origin: Origin | None = None  # of the episode that is running
        self.script: Script | None = None  # to be replayed
        self._replay: Iterator[Replayed | None] = iter(())
        self._replayed: Replayed | None = None

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with self._faults:
            observation, reward, terminated, truncated, _ = self.env.step(action)
            observation, reward = self._fit(observation), check_reward(reward)
            if check_flags(terminated, truncated):  # the reset that follows at once may write into the same array
                observation = copy(observation)
        return observation, reward, terminated, truncated, {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with self._faults:
            self.origin = origin_of(self.env, seed)
            return self._fit(self.env.reset(seed=seed, options=options)[0]), {}

    def replay(self) -> Replayed | None:
        """A part of what the script has; None where there is more."""
        if self.script is not None:
            self._replay, self._replayed, self.script = replay(self.env, self.script), None, None
        until = time.monotonic() + PART
        with self._faults:
            while self._replayed is None and time.monotonic() < until:
                self._replayed = next(self._replay)
            if self._replayed is not None:
                self._fit(self._replayed.observation)
                self.origin = self._replayed.origin
        return self._replayed


def _mujoco_warning(message: str) -> None:
    if "deprecated" not in message:
        logging.getLogger("mujoco").warning(message)
