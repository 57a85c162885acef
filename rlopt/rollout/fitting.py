"""What an environment gives is held against its space: numpy would spread one number over a row, or bend its type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rlopt.errors import EnvironmentFault


class Misfit(ValueError):
    """An observation or a reward that is not of the kind the environment promised."""


def fitting(space: spaces.Box) -> Callable[[Any], Any]:
    """A function from an observation to itself, which raises Misfit where it has not the shape or type of ``space``.

    Numbers of the same kind pass: float64 for float32, and whole numbers for either.
    """
    shape, fine = space.shape, {space.dtype}

    def fit(observation: Any) -> Any:
        if getattr(observation, "shape", None) != shape or observation.dtype not in fine:
            observation = _array(observation)
            if observation.shape != shape:
                raise Misfit(f"an observation of shape {observation.shape} where its space has {shape}")
            if not np.can_cast(observation.dtype, space.dtype, "same_kind"):
                raise Misfit(f"an observation of type {observation.dtype} where its space has {space.dtype}")
            fine.add(observation.dtype)
        return observation

    return fit


def number(reward: Any) -> float:
    """The reward, or Misfit where it is not one number."""
    if isinstance(reward, (float, int)):  # numpy's float64 is one
        return reward
    found = _array(reward)
    if found.shape:
        raise Misfit(f"a reward of shape {found.shape} where one number is wanted")
    if found.dtype.kind not in "fiub":
        raise Misfit(f"a reward of type {type(reward).__name__} where a number is wanted")
    return float(found)


class Faults:
    """Within, what an environment raises, or gives that does not fit, is an EnvironmentFault that says who it was."""

    def __init__(self, described: Callable[[], str]):
        self._described = described

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, EnvironmentFault):  # as the watchdog's is already
            said = " ".join(str(error).split())
            what = f"gave {said}" if isinstance(error, Misfit) else f"raised {type(error).__name__}: {said}"
            raise EnvironmentFault(f"{self._described()} {what}") from error


def _array(thing: Any) -> np.ndarray:
    try:
        return np.asarray(thing)
    except (ValueError, TypeError, RuntimeError) as error:  # such as lists of different lengths
        raise Misfit(f"{type(thing).__name__} that is no array: {' '.join(str(error).split())}") from error
