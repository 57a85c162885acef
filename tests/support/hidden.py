"""Environments whose Dict observations hold more than a policy is to see."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Drift(gym.Env):
    """A point is held near 0 by pushes left and right; its velocity, which a push changes, is a key of its own.

    Observations are Dict(position, robot: Dict(noise, velocity)), all of them Boxes of one number. The reward is 1 less
    the distance from 0. Episodes of ``length`` steps are truncated. With ``masks`` every third step allows but the
    second action. ``shown`` names the keys that observations have, by default all.
    """

    def __init__(
        self, length: int = 30, masks: bool = False, shown: list[str] | None = None, render_mode: str | None = None
    ):
        self.observation_space = spaces.Dict(
            {"position": _number(), "robot": spaces.Dict({"noise": _number(), "velocity": _number()})}
        )
        self.action_space = spaces.Discrete(2)
        if shown:
            self.observation_space = spaces.Dict({key: self.observation_space[key] for key in shown})
        self._length, self._masks = length, masks

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._t, self._x, self._v = 0, 0.0, float(self.np_random.uniform(-0.3, 0.3))
        return self._seen(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        self._v += 0.02 if action else -0.02
        self._x += self._v
        return self._seen(), 1.0 - abs(self._x), False, self._t >= self._length, self._info()

    def _seen(self) -> dict[str, Any]:
        noise = self.np_random.normal(size=1).astype(np.float32)
        robot = {"noise": noise, "velocity": np.array([self._v], np.float32)}
        seen = {"position": np.array([self._x], np.float32), "robot": robot}
        return {key: seen[key] for key in self.observation_space}

    def _info(self) -> dict[str, Any]:
        return {"action_mask": np.array([self._t % 3 != 2, True])} if self._masks else {}


def _number() -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (1,), np.float32)
