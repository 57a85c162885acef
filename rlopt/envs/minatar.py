"""MinAtar: five Atari games on a grid of 10 x 10 cells with a channel for each kind of object (Young and Tian 2019).

MinAtar/Breakout-v1 and the like are the package minatar's own environments, in which an action is replaced by the last
one with probability 0.1. -v1 has the actions that do something in the game, -v0 all six, as in the paper.

`MinAtar` is a wrapper, ``env.wrappers=[minatar]``. It turns booleans into bytes of 0 and 1, which are stored and seen
as images, and gives a game a state that a checkpoint holds: its generator outlives an episode (see envs/replay.py).
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.errors import UserError, needs_extra

_FIXED = ("random", "channels", "action_map", "ramping")  # of a game; the generator has an entry of its own


class MinAtar(gym.ObservationWrapper[Any, Any, Any]):
    """Observations (10, 10, C) as bytes, and ``state()`` and ``restore(state)`` of the game."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        if not hasattr(env.unwrapped, "game"):
            raise ValueError("it is for the games of MinAtar")
        self.observation_space = spaces.Box(0, 1, env.observation_space.shape, np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        return np.asarray(observation, np.uint8)

    def state(self) -> dict[str, Any]:
        """All that decides how the game goes on."""
        game = self.env.unwrapped.game  # type: ignore[attr-defined]
        own = {name: value for name, value in vars(game.env).items() if name not in _FIXED}
        return {"game": own, "last_action": game.last_action, "generator": game.random.get_state(legacy=False)}

    def restore(self, state: dict[str, Any]) -> None:
        """Make a game that was reset with a seed go on as the one that gave ``state``."""
        game = self.env.unwrapped.game  # type: ignore[attr-defined]
        vars(game.env).update(state["game"])
        game.last_action = state["last_action"]
        game.random.set_state(state["generator"])


def register(id: str) -> None:
    """Register the games of MinAtar. Raises UserError where the package is not installed."""
    try:
        from minatar import gym as games
    except ImportError as error:
        raise UserError(needs_extra(f"env.id={id} needs a package that is not installed", "minatar")) from error
    games.register_envs()
