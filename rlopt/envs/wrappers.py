"""CheckedEnv compares what an environment returns with its spaces; `guard` names the environment that fails.

An environment of the old API of gym is named as such. `rlopt.envs.observations` has the checks of observations.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.envs.observations import InvalidOutput, check_box, flat_space, flattener, to_array
from rlopt.errors import EnvironmentFault, in_one_line

FAULTS = (Exception, SystemExit, GeneratorExit)  # what an environment may raise: everything but the user's Ctrl-C
_BOOLS = frozenset((bool, np.bool_))
_OLD = "as in the old API of gym; wrap it by shimmy.GymV21CompatibilityV0, or return what Gymnasium asks for"


_NORMALISERS = {  # wrapper of Gymnasium -> (what it hides, rlopt's own option)
    "NormalizeReward": ("returns are those of normalised rewards", "rewards.scale=true"),
    "NormalizeObservation": ("evaluations normalise in another way than training", "observations.normalise=true"),
}


class CheckedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Checks every observation, reward and flag of ``env``, and flattens observations that are no Box.

    ``declared`` is the environment's own observation space; `observation_space` is a Box. Raises InvalidOutput where a
    part of an observation has another shape or range than its space, or where a type cannot be converted. Rewards come
    out as Python numbers and flags as booleans.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self.declared = env.observation_space
        self._shape: tuple[int, ...] = (-1,)  # no array's: every observation is flattened, and so checked
        self._known: set[Any] = set()  # types of observations that need no second look
        if isinstance(self.declared, spaces.Box):
            self._box = self.declared
            self._shape, self._known = self._box.shape, {self._box.dtype}
        else:
            self.observation_space = flat_space(self.declared)
            self._flatten = flattener(self.declared)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            found = self.env.step(action)
        except ValueError as error:
            if "expected 5, got 4" in str(error):  # a wrapper of Gymnasium unpacks what step returned
                raise InvalidOutput(f"4 values from step where 5 are wanted, {_OLD}") from error
            raise
        if type(found) is not tuple or len(found) != 5:
            raise _wrong_result("step", found, 5, "(observation, reward, terminated, truncated, info)", old=4)
        observation, reward, terminated, truncated, info = found
        # the common case costs no further function call: this runs once for every transition
        if getattr(observation, "shape", None) != self._shape or observation.dtype not in self._known:
            observation = self.check_observation(observation)
        if not isinstance(reward, (float, int)):  # numpy's float64 is a float
            reward = check_reward(reward)
        if type(terminated) not in _BOOLS or type(truncated) not in _BOOLS:
            terminated, truncated = check_flag("terminated", terminated), check_flag("truncated", truncated)
        return observation, reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            found = self.env.reset(seed=seed, options=options)
        except TypeError as error:
            if "reset() got an unexpected keyword argument" in str(error):
                raise InvalidOutput(f"no way to seed it: {error}, {_OLD}") from error
            raise
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
            raise _wrong_result("reset", found, 2, "(observation, info)", old=None)
        return self.check_observation(found[0]), found[1]

    def check_observation(self, observation: Any) -> Any:
        """The observation, as an array of `observation_space`. Raises InvalidOutput."""
        if not isinstance(self.declared, spaces.Box):
            return self._flatten(observation)
        array = check_box(self._box, observation)
        if array.dtype.kind == self._box.dtype.kind == "f" and array.dtype.itemsize > self._box.dtype.itemsize:
            with np.errstate(over="ignore"):  # a number too large becomes infinite, which the update finds
                return array.astype(self._box.dtype)
        if array.dtype.kind not in "iu" or self._box.dtype.kind not in "iu":  # whole numbers must fit each time
            self._known.add(array.dtype)
        return array


def describe_normalisers(env: gym.Env) -> list[str]:
    """A line for each of Gymnasium's wrappers around ``env`` that normalises, with what to type instead."""
    found = []
    while isinstance(env, gym.Wrapper):
        if (name := type(env).__name__) in _NORMALISERS:
            what, option = _NORMALISERS[name]
            found.append(
                f"the environment is wrapped in {name}: {what}, and its statistics are not in a checkpoint. Leave it "
                f"out; {option} does this"
            )
        env = env.env
    return found


def _wrong_result(function: str, found: Any, count: int, wanted: str, old: int | None) -> InvalidOutput:
    came = f"{len(found)} values" if isinstance(found, tuple) else type(found).__name__
    if isinstance(found, tuple) and len(found) == count:
        came = f"{came}, of which the last is {type(found[-1]).__name__},"
    is_old = not isinstance(found, tuple) if old is None else isinstance(found, tuple) and len(found) == old
    return InvalidOutput(f"{came} from {function} where {wanted} is wanted{f', {_OLD}' if is_old else ''}")


def check_reward(reward: Any) -> float:
    """The reward as a Python number. Raises InvalidOutput where it is not one number."""
    array = to_array(reward)
    if array.shape:
        raise InvalidOutput(f"a reward of shape {array.shape} where one number is wanted")
    if array.dtype.kind not in "fiub":
        raise InvalidOutput(f"a reward of type {type(reward).__name__} where a number is wanted")
    return float(array)


def check_flag(name: str, flag: Any) -> bool:
    """The flag as a boolean. Raises InvalidOutput where it is neither true nor false."""
    array = to_array(flag)
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
            what = (
                f"gave {error}"
                if isinstance(error, InvalidOutput)
                else f"raised {type(error).__name__}: {in_one_line(error)}"
            )
            raise EnvironmentFault(" ".join(f"{self._describe()} {what}".split()).rstrip(": ")) from error
