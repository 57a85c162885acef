"""EnvPool's environments, which it steps in C++ on threads of its own: env.backend=envpool (Weng et al. 2022).

An id that Gymnasium has too is evaluated and drawn with Gymnasium's environment, and so must have the same spaces. One
that EnvPool alone has, such as Pong-v5, has EnvPool's spaces, and is evaluated with EnvPool; it cannot be drawn.

    rlopt train algo=ppo env.id=Pong-v5 env.backend=envpool policy=nature_cnn critic=nature_cnn
"""

from __future__ import annotations

import difflib
import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rlopt.envs.replay import Origin, Replayed, Script
from rlopt.envs.vector import seeds_for
from rlopt.errors import UserError, in_one_line, needs_extra


def check_id(id: str) -> None:
    """Raise UserError where EnvPool is not installed, or has no environment of this id, with what to type instead."""
    known = _package().list_all_envs()
    if id in known:
        return
    own = id.rpartition("/")[2]  # ALE/Pong-v5
    near = [own] if own in known else difflib.get_close_matches(own, known, n=3, cutoff=0.7)
    hint = f"it has {' and '.join(near)}: type env.id={near[0]}, or" if near else "choose"
    raise UserError(f"EnvPool has no env.id={id}; {hint} env.backend=sync")


class EnvPoolEnv(gym.Env[Any, Any]):
    """One environment of an id that EnvPool alone has, for evaluation: a pool of one."""

    def __init__(self, id: str, **kwargs: Any):
        kwargs.pop("render_mode", None)
        self._make = partial(_call, id, {**kwargs, "num_envs": 1, "num_threads": 1})
        self.observation_space, self.action_space, self._dtype = _spaces(self._make("make_spec"))
        self._pool: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A seed makes a new pool: EnvPool takes one only then."""
        if self._pool is None or seed is not None:
            self.close()
            self._pool = self._make("make", env_type="gymnasium", seed=[_small(seed)])
        return _without_warnings(self._pool.reset)[0][0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        found = self._pool.step(np.asarray(action, self._dtype)[None])
        observation, reward, terminated, truncated = (each[0] for each in found[:4])
        return observation, float(reward), bool(terminated), bool(truncated), {}

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


class EnvPoolEnvs(VectorEnv):
    """EnvPool's environments of the same id, which reset in the next step. The first `reset` makes them.

    ``like`` is the environment that evaluations use: raises UserError where EnvPool's has other spaces.
    """

    def __init__(self, id: str, like: gym.Env, num_envs: int, kwargs: dict[str, Any]):
        self._pool: Any = None
        check_id(id)
        threads = min(num_envs, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        self._make = partial(_call, id, {**kwargs, "num_envs": num_envs, "num_threads": threads})
        *found, self._dtype = _spaces(self._make("make_spec"))
        for kind, own, theirs in zip(
            ("observation", "action"), (like.observation_space, like.action_space), found, strict=True
        ):
            if not _same_arrays(own, theirs):
                raise UserError(f"EnvPool's {id} has {kind}s {theirs}, Gymnasium's {own}; choose env.backend=sync")
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = like.observation_space, like.action_space
        self.observation_space = batch_space(like.observation_space, num_envs)
        self.action_space = batch_space(like.action_space, num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self._pool is None or seed is not None:
            seeds = [_small(own) for own in seeds_for(0 if seed is None else seed, self.num_envs)]
            self._pool = self._make("make", env_type="gymnasium", seed=seeds)
        return _without_warnings(self._pool.reset)[0], {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        observations, rewards, terminations, truncations, _ = self._pool.step(actions.astype(self._dtype, copy=False))
        return observations, rewards, terminations, truncations, {}

    @property
    def origins(self) -> list[Origin | None]:
        """None for every environment: EnvPool does not expose its generators."""
        return [None] * self.num_envs

    def replay(self, scripts: Sequence[Script]) -> list[Replayed]:
        """Reset all environments: their episodes cannot be replayed."""
        observations, _ = self.reset(seed=[script.seed for script in scripts])
        return [Replayed(observation, None, False) for observation in observations]

    def close(self, **kwargs: Any) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def _package() -> Any:
    """The package envpool. Raises UserError where it is not installed."""
    try:
        return _without_warnings(lambda: importlib.import_module("envpool"))
    except ImportError as error:
        missing = "env.backend=envpool needs a package that is not installed"
        raise UserError(needs_extra(missing, "envpool")) from error


def _call(id: str, common: dict[str, Any], function: str, **more: Any) -> Any:
    """Call a function of the package envpool for this environment."""
    package = _package()
    try:
        return _without_warnings(lambda: getattr(package, function)(id, **common, **more))
    except Exception as error:
        raise UserError(f"EnvPool cannot make env.id={id}: {in_one_line(error)}") from error


def _spaces(spec: Any) -> tuple[gym.Space, gym.Space, Any]:
    """Observations, actions, and the type in which EnvPool takes actions."""
    found = _without_warnings(lambda: (spec.gymnasium_observation_space, spec.gymnasium_action_space))
    return *found, next(s.dtype for name, s in spec.action_array_spec.items() if name == "action")


def _small(seed: int | None) -> int:
    """The seed as EnvPool takes it: of 31 bits."""
    return (seed or 0) % 2**31


def _without_warnings(call: Callable[[], Any]) -> Any:
    """Call without Gymnasium's warnings about spaces of another precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def _same_arrays(own: gym.Space, theirs: gym.Space) -> bool:
    """True if the same arrays belong to both spaces."""
    if isinstance(own, spaces.Box) and isinstance(theirs, spaces.Box):
        same = own.shape == theirs.shape
        return same and all(np.allclose(getattr(own, b), getattr(theirs, b), 1e-5) for b in ("low", "high"))
    return isinstance(own, spaces.Discrete) and isinstance(theirs, spaces.Discrete) and own.n == theirs.n
