"""What an environment gives is held against its space: numpy would spread one number over a row, or bend its type."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rlopt.errors import EnvironmentFault

FAULTS = (Exception, SystemExit, GeneratorExit)  # what an environment may raise: all but the user's Ctrl-C
_TRUTHS = frozenset((bool, np.bool_))


class InvalidOutput(ValueError):
    """What is not of the kind that the environment promised."""


def observation_check(space: spaces.Box) -> Callable[[Any], Any]:
    """A function from an observation to itself, which raises Misfit where it has not the shape or type of ``space``.

    Numbers of the same kind pass: float64 for float32, and whole numbers for either.
    """
    shape, fine = space.shape, {space.dtype}

    def fit(observation: Any) -> Any:
        if getattr(observation, "shape", None) != shape or observation.dtype not in fine:
            observation = _array(observation)
            if observation.shape != shape:
                raise InvalidOutput(f"an observation of shape {observation.shape} where its space has {shape}")
            if not np.can_cast(observation.dtype, space.dtype, "same_kind"):
                raise InvalidOutput(f"an observation of type {observation.dtype} where its space has {space.dtype}")
            fine.add(observation.dtype)
        return observation

    return fit


def check_reward(reward: Any) -> float:
    """The reward, or Misfit where it is not one number."""
    if isinstance(reward, (float, int)):  # numpy's float64 is one
        return reward
    found = _array(reward)
    if found.shape:
        raise InvalidOutput(f"a reward of shape {found.shape} where one number is wanted")
    if found.dtype.kind not in "fiub":
        raise InvalidOutput(f"a reward of type {type(reward).__name__} where a number is wanted")
    return float(found)


def check_flags(terminated: Any, truncated: Any) -> bool:
    """Whether the episode has ended, or Misfit where one of the two is neither true nor false."""
    if type(terminated) not in _TRUTHS or type(truncated) not in _TRUTHS:
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            found = _array(flag)
            if found.shape or found.dtype.kind not in "fiub" or found not in (0, 1):
                raise InvalidOutput(f"{name}={flag!r} where true or false is wanted")
    return terminated or truncated


class guard:
    """Within, what an environment raises, or gives that does not fit, is an EnvironmentFault that says who it was.

    That it ends the process (SystemExit) is a fault too, as is its KeyboardInterrupt in a process that hears no Ctrl-C.
    """

    def __init__(self, described: Callable[[], str] = str):
        self._described = described

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        deaf = type(error) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        if deaf or (isinstance(error, FAULTS) and not isinstance(error, EnvironmentFault)):  # as the watchdog's is
            what = f"gave {error}" if isinstance(error, InvalidOutput) else f"raised {type(error).__name__}: {error}"
            raise EnvironmentFault(" ".join(f"{self._described()} {what}".split()).rstrip(": ")) from error


def _array(thing: Any) -> np.ndarray:
    try:
        return np.asarray(thing)
    except (ValueError, TypeError, RuntimeError) as error:  # such as lists of different lengths
        raise InvalidOutput(f"{type(thing).__name__} that is no array: {' '.join(str(error).split())}") from error
