"""A grid of which the far corner alone is worth something."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Grid(gym.Env[np.int64, np.int64]):
    """``size`` x ``size`` places; an episode begins in one corner and is worth 1 in the opposite one, where it ends.

    The observation is the number of the place. The four actions are steps; one against a wall stays. With ``shuffled``
    every place has them in an order of its own, the same in all episodes, as DeepSea has its actions (Osband et al.
    2019): then no action leads anywhere when it is repeated. A step that leads to another place costs ``cost``, as
    DeepSea's do: who has not met the reward learns to stay. After ``horizon`` steps an episode is truncated.
    """

    _STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0))

    def __init__(
        self,
        size: int = 10,
        horizon: int = 40,
        shuffled: bool = False,
        cost: float = 0.0,
        render_mode: str | None = None,
    ):
        self.observation_space = gym.spaces.Discrete(size**2)
        self.action_space = gym.spaces.Discrete(4)
        self.size, self.horizon, self.cost = size, horizon, cost
        orders = np.tile(np.arange(4), (size, size, 1))
        self._orders = np.random.default_rng(0).permuted(orders, axis=2) if shuffled else orders

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._t, self._at = 0, np.zeros(2, np.int64)
        return self._seen(), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        step = self._STEPS[self._orders[self._at[0], self._at[1], int(action)]]
        before, self._at = self._at, (self._at + step).clip(0, self.size - 1)
        arrived = bool((self._at == self.size - 1).all())
        reward = arrived - self.cost * bool((self._at != before).any())
        return self._seen(), reward, arrived, self._t >= self.horizon, {"distance": int(self._at.sum())}

    def _seen(self) -> np.int64:
        return np.int64(self._at[0] * self.size + self._at[1])


gym.register("SparseGrid-v0", entry_point=Grid)
