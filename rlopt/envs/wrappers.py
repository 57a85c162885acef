"""CheckedEnv compares what an environment returns with its spaces; `guard` names the environment that fails.

Without the checks numpy would spread one number over a whole observation, or convert its type, and nobody would know.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlopt.errors import EnvironmentFault, in_one_line

FAULTS = (Exception, SystemExit, GeneratorExit)  # what an environment may raise: everything but the user's Ctrl-C
_BOOLS = frozenset((bool, np.bool_))


class InvalidOutput(ValueError):
    """An environment returned something of another shape or type than its spaces declare."""


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Checks every observation, reward and flag of ``env``, whose observation space is a Box.

    Raises InvalidOutput where an observation has another shape than its space, or where a type cannot be converted.
    Numbers of the same kind pass: float64 where the space has float32, whole numbers where it has either. Rewards
    come out as Python numbers and flags as booleans.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        assert isinstance(env.observation_space, gym.spaces.Box)
        self._shape, self._dtype = env.observation_space.shape, env.observation_space.dtype
        self._known = {self._dtype}  # types of observations that passed before

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        # the common case costs no further function call: this runs once for every transition
        if getattr(observation, "shape", None) != self._shape or observation.dtype not in self._known:
            observation = self.check_observation(observation)
        if not isinstance(reward, (float, int)):  # numpy's float64 is a float
            reward = check_reward(reward)
        if type(terminated) not in _BOOLS or type(truncated) not in _BOOLS:
            terminated, truncated = check_flag("terminated", terminated), check_flag("truncated", truncated)
        return observation, reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self.check_observation(observation), info

    def check_observation(self, observation: Any) -> Any:
        """The observation, as an array where it was none. Raises InvalidOutput."""
        array = observation if isinstance(observation, np.ndarray) else _to_array(observation)
        if array.shape != self._shape:
            raise InvalidOutput(f"an observation of shape {array.shape} where its space has {self._shape}")
        if not np.can_cast(array.dtype, self._dtype, "same_kind"):
            raise InvalidOutput(f"an observation of type {array.dtype} where its space has {self._dtype}")
        self._known.add(array.dtype)
        return array


def check_reward(reward: Any) -> float:
    """The reward as a Python number. Raises InvalidOutput where it is not one number."""
    array = _to_array(reward)
    if array.shape:
        raise InvalidOutput(f"a reward of shape {array.shape} where one number is wanted")
    if array.dtype.kind not in "fiub":
        raise InvalidOutput(f"a reward of type {type(reward).__name__} where a number is wanted")
    return float(array)


def check_flag(name: str, flag: Any) -> bool:
    """The flag as a boolean. Raises InvalidOutput where it is neither true nor false."""
    array = _to_array(flag)
    if array.shape or array.dtype.kind not in "fiub" or array not in (0, 1):
        raise InvalidOutput(f"{name}={flag!r} where true or false is wanted")
    return bool(array)


class guard:
    """Context manager: an error of the environment in it becomes an EnvironmentFault that names the environment.

    ``describe()`` gives the name, and the step it was at. SystemExit counts as an error of the environment. So does
    KeyboardInterrupt in a process that ignores Ctrl-C, because the environment must then have raised it.
    """

    def __init__(self, describe: Callable[[], str]):
        self._describe = describe

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, EnvironmentFault):  # the watchdog's fault names it already
            return
        ignores_interrupts = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        if isinstance(error, FAULTS) or (type(error) is KeyboardInterrupt and ignores_interrupts):
            what = f"gave {error}" if isinstance(error, InvalidOutput) else f"raised {type(error).__name__}: {error}"
            raise EnvironmentFault(" ".join(f"{self._describe()} {what}".split()).rstrip(": ")) from error


def _to_array(thing: Any) -> np.ndarray:
    try:
        return np.asarray(thing)
    except (ValueError, TypeError, RuntimeError) as error:  # such as lists of different lengths
        raise InvalidOutput(f"{type(thing).__name__} that is no array: {in_one_line(error)}") from error
