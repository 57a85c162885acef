"""Small games of PettingZoo's parallel API, which are known in full; none of them needs PettingZoo.

| game    | agents                                                                            |
|---|---|
| Fading  | end at different times, some terminated and some truncated; one may come later   |
| Higher  | of two agents who say a number the higher one wins: the best policy is the highest |
| Offered | may take only some of their actions, and are rewarded for the highest of these    |
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.config.extensions import given_environment
from rlopt.training.trainer import Trainer
from tests.support.building import resolve, trainer


class Fading:
    """Lengths, kinds of ends, and what each action is worth are drawn at the reset; the last agent may come late.

    Observation (4,): a number drawn for the step, t, the agent's length, and what its action is worth.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "name": "fading"}

    def __init__(self, count: int = 3, late: int = 0, longest: int = 6, render_mode: str | None = None):
        self.possible_agents = [f"fader_{i}" for i in range(count)]
        self.agents: list[str] = []
        self.render_mode, self._late, self._longest = render_mode, late, longest

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._random, self._t = np.random.default_rng(seed), 0
        self._length = {a: int(self._random.integers(1, self._longest)) for a in self.possible_agents}
        self._truncates = {a: bool(self._random.integers(2)) for a in self.possible_agents}
        self._worth = {a: float(self._random.normal()) for a in self.possible_agents}
        self.agents = list(self.possible_agents[:-1] if self._late else self.possible_agents)
        self._length[self.possible_agents[-1]] += self._late
        return {a: self._see(a) for a in self.agents}, {a: {"t": 0} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents), (actions, self.agents)
        self._t += 1
        going = self.agents
        over = {a: self._t >= self._length[a] for a in going}
        rewards = {a: self._worth[a] * int(actions[a]) + 0.1 * self._t for a in going}
        terminated = {a: over[a] and not self._truncates[a] for a in going}
        truncated = {a: over[a] and self._truncates[a] for a in going}
        self.agents = [a for a in going if not over[a]]
        seen = list(going)
        if self._late == self._t and self.agents:
            self.agents = [*self.agents, self.possible_agents[-1]]
            seen.append(self.possible_agents[-1])
        return {a: self._see(a) for a in seen}, rewards, terminated, truncated, {a: {"t": self._t} for a in seen}

    def render(self) -> Any:
        return np.full((8, 8, 3), 10 * len(self.agents), np.uint8)

    def close(self) -> None:
        pass

    def _see(self, agent: str) -> np.ndarray:
        seen = self._random.normal(), self._t, self._length[agent], self._worth[agent]
        return np.array(seen, np.float32)


class Higher:
    """For ``length`` rounds two agents say 0 to 4 at once; the higher number wins 1, the lower loses it."""

    metadata: dict[str, Any] = {"render_modes": [], "name": "higher"}

    def __init__(self, length: int = 4, render_mode: str | None = None):
        self.possible_agents, self.agents, self._length = ["left", "right"], [], length

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(0, 1, (2,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(5)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._t, self.agents = 0, list(self.possible_agents)
        return self._see(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self._t += 1
        said, over = [int(actions[a]) for a in self.possible_agents], self._t == self._length
        won = float(np.sign(said[0] - said[1]))
        rewards = dict(zip(self.possible_agents, (won, -won), strict=True))
        flags = dict.fromkeys(self.possible_agents, over)
        self.agents = [] if over else self.agents
        return self._see(), rewards, flags, dict.fromkeys(flags, False), {a: {} for a in self.possible_agents}

    def close(self) -> None:
        pass

    def _see(self) -> dict[str, np.ndarray]:
        return {a: np.array([self._t / self._length, 1], np.float32) for a in self.possible_agents}


class Offered:
    """Two agents may take some of six actions in each of ``length`` steps, by PettingZoo's convention of masks."""

    metadata: dict[str, Any] = {"render_modes": [], "name": "offered"}

    def __init__(self, length: int = 5, in_info: bool = False):
        self.possible_agents, self.agents, self._length, self._in_info = ["a", "b"], [], length, in_info

    def observation_space(self, agent: str) -> spaces.Space:
        seen = spaces.Box(-1, 1, (6,), np.float32)
        return seen if self._in_info else spaces.Dict(observation=seen, action_mask=spaces.Box(0, 1, (6,), np.int8))

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(6)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self._random, self._t, self.agents = np.random.default_rng(seed), 0, list(self.possible_agents)
        return self._offer()

    def step(self, actions: dict[str, Any]) -> Any:
        assert all(self._masks[a][actions[a]] for a in self.agents), "a forbidden action"
        self._t += 1
        rewards = {a: float(actions[a] == np.flatnonzero(self._masks[a])[-1]) for a in self.agents}
        flags = {a: self._t == self._length for a in self.agents}
        observations, infos = self._offer()
        self.agents = [] if self._t == self._length else self.agents
        return observations, rewards, flags, dict.fromkeys(flags, False), infos

    def close(self) -> None:
        pass

    def _offer(self) -> Any:
        self._masks = {a: np.zeros(6, np.int8) for a in self.agents}
        for mask in self._masks.values():
            mask[self._random.choice(6, 3, replace=False)] = 1
        seen = {a: mask.astype(np.float32) for a, mask in self._masks.items()}
        if self._in_info:
            return seen, {a: {"action_mask": mask} for a, mask in self._masks.items()}
        both = {a: {"observation": seen[a], "action_mask": mask} for a, mask in self._masks.items()}
        return both, {a: {} for a in self.agents}


class Alone(gym.Env):
    """One agent with the spaces of Fading's; it is not stepped."""

    observation_space, action_space = spaces.Box(-np.inf, np.inf, (4,), np.float32), spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(4, np.float32), 0.0, False, False, {}


def name_of(game: type[Any]) -> str:
    """The id of a game of this file, for the command line with --import."""
    return f"tests.support.games:{game.__name__}"


def make_trainer(game: type[Any], *overrides: str) -> Trainer:
    """A run on copies of a game."""
    with given_environment(name_of(game), game):
        return trainer(resolve([f"env.id={name_of(game)}", *overrides]))
