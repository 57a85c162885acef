"""Action masks: an environment that says which actions are allowed, and the rows in which that reaches the policy.

| the environment gives                                         | env.mask    |
|---|---|
| observations of Dict({"observation": ..., "action_mask": ...}) | auto        |
| ``info["action_mask"]`` at every reset and every step         | auto, info  |

The first is PettingZoo's convention. For the second auto makes one environment, resets it and looks. A mask is for
Discrete and MultiDiscrete actions; one in the info beside others is refused, unless env.mask=none leaves it out. It has
1 for every action that is allowed and 0 for every other; for MultiDiscrete these are the numbers of all categories one
after another, or one array for each category. A mask that allows no action is the environment's fault, except at the
end of an episode, where nobody acts on it, and where it may be left out.

A row is the flat observation followed by the mask: [observation (D) | mask (M)]. No normaliser changes the mask, and
networks do not read it. It forbids outputs: see rlopt.core.tapes.masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.envs.observations import (
    InvalidOutput,
    MaskedBox,
    as_image,
    check_observation_space,
    describe_space,
    leaves_of,
    to_array,
)
from rlopt.envs.spaces import has_mask_key, mask_counts
from rlopt.envs.wrappers import CheckedEnv
from rlopt.errors import UserError

KEY = "action_mask"


class SplitMask(gym.Wrapper[Any, Any, Any, Any]):
    """Takes the mask out of observations of Dict({"observation", "action_mask"}), and puts it into the info."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        assert isinstance(env.observation_space, spaces.Dict)
        self.observation_space = env.observation_space["observation"]

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        if type(found) is not tuple or len(found) != 5:
            return found  # which is refused outside
        observation, info = self._split(found[0], found[4])
        return observation, *found[1:4], info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        found = self.env.reset(seed=seed, options=options)
        if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
            return found
        return self._split(*found)

    @staticmethod
    def _split(observation: Any, info: Any) -> tuple[Any, dict[str, Any]]:
        if not isinstance(observation, Mapping):
            raise InvalidOutput(f"an observation of type {type(observation).__name__} where its space is a Dict")
        for key in ("observation", KEY):
            if key not in observation:
                raise InvalidOutput(f"an observation without {key!r}, which its space has")
        return observation["observation"], {**info, KEY: observation[KEY]}


class MaskedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Checks the mask in every info of ``env`` and puts it behind the observation: see the module's rows.

    ``declared`` is the space of the observation alone, as the environment declares it; `observation_space` is a
    MaskedBox. Raises InvalidOutput where a mask is missing, has another length, holds another number than 0 and 1, or
    allows nothing.
    """

    def __init__(self, env: CheckedEnv, counts: tuple[int, ...]):
        super().__init__(env)
        box = env.observation_space
        assert isinstance(box, spaces.Box)
        self.declared, self.observation_space = env.declared, MaskedBox.of(box, sum(counts))
        self._counts, self._starts = counts, np.cumsum(counts, dtype=np.int64) - np.array(counts)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._row(observation, info, terminated or truncated), reward, terminated, truncated, info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._row(observation, info, False), info

    def _row(self, observation: Any, info: dict[str, Any], over: bool) -> np.ndarray:
        """[observation (D) | mask (M)]; the mask is all ones where the episode is over and nothing is allowed."""
        assert self.observation_space.shape is not None
        row = np.empty(self.observation_space.shape, self.observation_space.dtype)
        count = sum(self._counts)
        row[:-count] = np.reshape(observation, -1)
        given = info.get(KEY)
        if given is None and not over:
            raise InvalidOutput(f"no {KEY} in its info, which must hold one after every reset and step")
        row[-count:] = 1 if given is None else self._check(given, over)
        return row

    def _check(self, given: Any, over: bool) -> np.ndarray:
        """The mask (M,), of any type of numbers."""
        mask = given if isinstance(given, np.ndarray) and given.ndim == 1 else self._joined(given)
        if mask.shape != (sum(self._counts),):
            raise InvalidOutput(f"an action mask of {mask.size} numbers where there are {sum(self._counts)} actions")
        if mask.dtype.kind not in "biuf":
            raise InvalidOutput(f"an action mask of type {mask.dtype} where 0 and 1 are wanted")
        allowed = mask != 0
        if mask.dtype.kind != "b" and not ((mask == 1) | ~allowed).all():
            wrong = mask[(mask != 1) & allowed][0]
            raise InvalidOutput(f"an action mask with {wrong} where 0 and 1 are wanted")
        free = np.logical_or.reduceat(allowed, self._starts)
        if free.all():
            return allowed
        if over:
            return np.ones_like(allowed)
        which = f" of category {int(np.argmin(free))}" if len(free) > 1 else ""
        raise InvalidOutput(f"an action mask that allows no action{which}")

    def _joined(self, given: Any) -> np.ndarray:
        """A mask that is a list, or has an array for each category, as one array (M,)."""
        parts = [to_array(part).reshape(-1) for part in (given if isinstance(given, tuple | list) else [given])]
        lengths = tuple(map(len, parts))
        if len(lengths) == len(self._counts) > 1 and lengths != self._counts:
            raise InvalidOutput(f"action masks of {lengths} numbers where the categories have {self._counts} actions")
        return np.concatenate(parts) if parts else np.empty(0)


def with_mask(env: gym.Env, image: str) -> MaskedEnv:
    """``env`` with rows of observation and mask; ``image`` is as for observations.as_image.

    Raises UserError where the actions cannot have a mask, or the mask's space does not suit them.
    """
    counts = mask_counts(env.action_space)
    if counts is None:
        raise UserError(
            f"info['action_mask'] is for Discrete and MultiDiscrete actions, and these are "
            f"{describe_space(env.action_space)}; type env.mask=none, with which every action may be taken"
        )
    if has_mask_key(env.observation_space, env.action_space):
        _check_space(env.observation_space[KEY], sum(counts))  # type: ignore[index]
        env = SplitMask(env)
    check_observation_space(env.observation_space)
    checked = CheckedEnv(env)
    checked.observation_space = as_image(checked.observation_space, image)
    return MaskedEnv(checked, counts)


def _check_space(space: gym.Space, count: int) -> None:
    """Raise UserError where the space of a mask does not hold a number for each of ``count`` actions."""
    leaves = [leaf for leaf in leaves_of(space) if isinstance(leaf, spaces.Box | spaces.MultiBinary)]
    size = sum(spaces.flatdim(leaf) for leaf in leaves)
    if size != count:
        raise UserError(
            f"observations['{KEY}'], of {describe_space(space)}, is taken for an action mask, and has {size} numbers "
            f"for {count} actions; to see it as a part of the observation type env.mask=none"
        )
