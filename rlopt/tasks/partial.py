"""Tasks that need memory: control from positions alone, and a T-maze.

| id                           | hides                                    | solved at          |
|---|---|---|
| rlopt/CartPolePositions-v0   | the velocities of CartPole-v1            | 475, as CartPole   |
| rlopt/PendulumPosition-v0    | the angular velocity of Pendulum-v1      | -250               |
| rlopt/TMaze-v0               | after the first step, where the goal is  | 1                  |

The T-maze is that of Bakker (2002, Reinforcement learning with long short-term memory), with the reward of Ni et al.
(2023, When do transformers shine in RL?): who dawdles pays at once, so that it asks for memory and not for luck.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TransformObservation

from rlopt.core.checks import at_least_one
from rlopt.errors import UserError

AHEAD, BACK, LEFT, RIGHT = range(4)


def _only(id: str, kept: list[int], kwargs: dict[str, Any]) -> gym.Env:
    """The environment with these numbers of its observations; its time limit is its own registration's."""
    env = gym.make(id, disable_env_checker=True, **kwargs).unwrapped
    seen = env.observation_space
    assert isinstance(seen, spaces.Box)
    shown = spaces.Box(seen.low[kept], seen.high[kept], dtype=seen.dtype.type)
    return TransformObservation(env, lambda observation: observation[kept], shown)


def cart_pole_positions(**kwargs: Any) -> gym.Env:
    """CartPole whose observations are the cart's position and the pole's angle."""
    return _only("CartPole-v1", [0, 2], kwargs)


def pendulum_position(**kwargs: Any) -> gym.Env:
    """Pendulum whose observations are cosine and sine of its angle."""
    return _only("Pendulum-v1", [0, 1], kwargs)


class TMaze(gym.Env[np.ndarray, np.int64]):
    """A corridor with a junction at its end. The first observation alone says whether to turn left or right there.

    Observations are (sign, junction): sign -1 for left and 1 for right at the first step, then 0; junction 1 there and
    0 before. A step that does not lead ahead along the corridor costs 1 / ``length``. A turn at the junction ends the
    episode, with reward 1 for the right one. After 3 ``length`` steps it is truncated. Without memory no policy has
    more than 0.5.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # declared as in Gymnasium

    def __init__(self, length: int = 20, render_mode: str | None = None):
        try:
            at_least_one("length", length)
        except ValueError as error:
            raise UserError(f"env.kwargs.{error}") from error
        self.length, self.render_mode = length, render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._goal = LEFT if self.np_random.integers(2) == 0 else RIGHT
        self._time = self._place = 0
        return np.array([-1.0 if self._goal == LEFT else 1.0, 0.0], np.float32), {}

    def step(self, action: np.int64) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        turned = self._place == self.length and action in (LEFT, RIGHT)
        reward = float(action == self._goal) if turned else 0.0
        if not turned:
            before, move = self._place, {AHEAD: 1, BACK: -1}.get(int(action), 0)
            self._place = min(max(before + move, 0), self.length)
            reward = 0.0 if self._place > before else -1 / self.length
        observation = np.array([0.0, float(self._place == self.length)], np.float32)
        return observation, reward, turned, not turned and self._time >= 3 * self.length, {}
