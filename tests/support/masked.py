"""Environments with action masks: Offers has many actions of which few are allowed, Halves has several categories."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Offers(gym.Env):
    """Of ``count`` actions ``offered`` are allowed at a time, and action k pays ``value[k]``, which never changes.

    The observation says nothing but the time: which actions are there the mask alone says, and a policy learns which
    of these to prefer. An action that is not allowed raises, or where ``lenient`` pays -1 and is counted in ``illegal``.
    ``convention`` is how the mask is given: in the info, or in observations of a Dict.
    """

    illegal = 0

    def __init__(self, count: int = 200, offered: int = 5, length: int = 20, convention: str = "info",
                 lenient: bool = False, render_mode: str | None = None):  # fmt: skip
        own = spaces.Box(0, 1, (1,), np.float32)
        self.in_dict = convention == "dict"
        self.observation_space = own
        if self.in_dict:
            mask = spaces.Box(0, 1, (count,), np.int8)
            self.observation_space = spaces.Dict({"observation": own, "action_mask": mask})
        self.action_space = spaces.Discrete(count)
        self.value = np.random.default_rng(5).permutation(count) / (count - 1)
        self.count, self.offered, self.length, self.lenient = count, offered, length, lenient

    @property
    def best(self) -> float:
        """The mean of the highest of the values on offer: what the best policy gets at a step."""
        shown = [np.random.default_rng(i).choice(self.value, self.offered, replace=False).max() for i in range(2000)]
        return float(np.mean(shown))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._offer()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        legal = bool(self.mask[action])
        if not legal:
            assert self.lenient, f"action {action} is not allowed"
            type(self).illegal += 1
        reward = float(self.value[action]) if legal else -1.0
        self.t += 1
        over = self.t == self.length
        observation, info = self._offer()
        return observation, reward, False, over, info

    def _offer(self) -> tuple[Any, dict[str, Any]]:
        self.mask = np.zeros(self.count, np.int8)
        self.mask[self.np_random.choice(self.count, self.offered, replace=False)] = 1
        observation = np.array([self.t / self.length], np.float32)
        if self.in_dict:
            return {"observation": observation, "action_mask": self.mask}, {}
        return observation, {"action_mask": self.mask}


class Halves(gym.Env):
    """MultiDiscrete([3, 2]) actions, with a mask that is a tuple, one array for each category; images or numbers.

    One action of each category is not allowed, another one at each step; it raises where one of these is taken.
    """

    def __init__(self, image: bool = False, render_mode: str | None = None):
        self.observation_space = spaces.Box(0, 255, (6, 6, 2), np.uint8) if image else spaces.Discrete(4)
        self.action_space = spaces.MultiDiscrete([3, 2])
        self.image = image

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._show()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert all(mask[a] for mask, a in zip(self.masks, action, strict=True)), f"{action} is not allowed"
        self.t += 1
        observation, info = self._show()
        return observation, float(action[0]), self.t == 7, False, info if self.t < 7 else {}

    def _show(self) -> tuple[Any, dict[str, Any]]:
        self.masks = tuple(np.arange(n) != self.np_random.integers(n) for n in (3, 2))
        seen = self.np_random.integers(0, 256, (6, 6, 2), np.uint8) if self.image else self.t % 4
        return seen, {"action_mask": self.masks}
