"""Environments in which something outlives an episode, for tests of what a resumed run is told and gives.

Lasting has a level that rises with its episodes, as an attribute, an array, an attribute of its class or a generator of
its own that is made late; Saved has the level as well, and state() and restore(state).
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Lasting(gym.Env):
    """Observations are drawn around the ``level``, which rises every ``every`` episodes; episodes have 7 steps."""

    shared: ClassVar[int] = 0

    def __init__(self, kind: str = "attribute", every: int = 2, late: int = 20):
        self.observation_space, self.action_space = spaces.Box(-99, 99, (2,), np.float64), spaces.Discrete(2)
        self._kind, self._every, self._late = kind, every, late
        self._episodes, self._array, self._steps = 0, np.zeros(1), 0
        self._own: np.random.Generator | None = None

    @property
    def level(self) -> float:
        count = {"attribute": self._episodes, "array": float(self._array[0]), "class": self.shared}.get(self._kind, 0)
        return count // self._every

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._t = 0
        if self._kind == "attribute":
            self._episodes += 1
        elif self._kind == "array":
            self._array[0] += 1
        elif self._kind == "class":
            type(self).shared += 1
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        self._steps += self._kind == "generator"
        if self._kind == "generator" and self._steps == self._late:
            self._own = np.random.default_rng()
        return self._draw(), float(self.level + action), self._t == 7, False, {}

    def _draw(self) -> np.ndarray:
        extra = self._own.random() if self._own else 0.0
        return self.np_random.normal(size=2) + self.level + extra


class Saved(Lasting):
    """Lasting that can be saved, with a tuple, an array, a numpy number and a dictionary in its state."""

    def state(self) -> Any:
        return {"levels": (self._episodes, {3: None}), "array": self._array, "t": np.int32(self._t), "note": "ü"}

    def restore(self, state: Any) -> None:
        (self._episodes, rest), self._array = state["levels"], state["array"].copy()
        assert rest == {3: None} and state["note"] == "ü" and type(state["t"]) is np.int32
        self._t = int(state["t"])


class Forgetful(Saved):
    """Saved, but that its restore forgets the level."""

    def restore(self, state: Any) -> None:
        super().restore({**state, "levels": [0, {3: None}]})


class Unsavable(Lasting):
    """Its state is no tree."""

    def state(self) -> Any:
        return {"all": [self]}

    def restore(self, state: Any) -> None:
        raise AssertionError("there is no such state")
