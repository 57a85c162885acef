"""Tiny environments that localise a fault: each can be learned only if one more part of a trainer is right.

| environment       | is learned only if                                                             |
|---|---|
| Constant          | the critic regresses on returns                                                |
| Observation       | observations reach the critic                                                  |
| Discounted        | values are bootstrapped and discounted                                         |
| Action            | the policy is moved towards what was rewarded                                  |
| ActionObservation | observations reach the policy, each with its own action and advantage          |
| Target            | the same for continuous actions, through the mapping to the environment's bounds |
| Truncated         | a truncated episode is worth what its last observation is worth                |
| Squashed          | tanh a reaches the bounds: the targets are near them                           |

The others have a known course: Counter tells where every observation came from, and Seeded depends on its reset seed
alone. tests/support/failing.py has environments that fail, tests/support/choices.py one for every kind of space, and
tests/support/lasting.py some in which something outlives an episode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.training.trainer import Trainer
from tests.support.building import resolve, trainer
from tests.support.choices import CHOICES
from tests.support.failing import Breaks, Fails, InvalidOutput, NotFinite, Raises, Strict
from tests.support.hidden import Drift
from tests.support.lasting import Forgetful, Lasting, Saved, Unsavable
from tests.support.masked import Halves, Offers

GAMMA = 0.5  # of the probes


class Probe(gym.Env):
    """One number as observation, drawn by ``observe(generator, t)``; episodes of ``length`` steps."""

    def __init__(
        self,
        observe: Callable[[np.random.Generator, int], float],
        reward: Callable[[float, Any, int], float],
        length: int = 1,
        truncates: bool = False,
        actions: spaces.Space | None = None,
        render_mode: str | None = None,
    ):
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = actions or spaces.Discrete(2)
        self._observe, self._reward, self._length, self._truncates = observe, reward, length, truncates

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._t, self._x = 0, self._observe(self.np_random, 0)
        return np.array([self._x], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = self._reward(self._x, action, self._t)
        self._t += 1
        self._x = self._observe(self.np_random, self._t)
        over = self._t == self._length
        observation = np.array([self._x], np.float32)
        return observation, reward, over and not self._truncates, over and self._truncates, {}


class Counter(gym.Env):
    """Observation (episode, t), reward t; episodes of 3, 4 and 5 steps, of which every second one is truncated.

    ``reuses`` gives the same array at every step, as some environments do.
    """

    def __init__(self, reuses: bool = False, render_mode: str | None = None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._episode, self._t, self._reuses = -1, 0, reuses
        self._buffer = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode, self._t = self._episode + 1, 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(self._t)
        self._t += 1
        over = self._t == self.length(self._episode)
        truncated = self.truncates(self._episode)
        return self._observation(), reward, over and not truncated, over and truncated, {}

    def _observation(self) -> np.ndarray:
        self._buffer[:] = self._episode, self._t
        return self._buffer if self._reuses else self._buffer.copy()

    @staticmethod
    def length(episode: int) -> int:
        return 3 + episode % 3

    @staticmethod
    def truncates(episode: int) -> bool:
        return episode % 2 == 1


class Seeded(gym.Env):
    """Length, observations and the worth of each action are drawn at reset; the action is held against them.

    A ``mixed`` action is a Dict of a category and a number.
    """

    def __init__(self, mixed: bool = False, render_mode: str | None = None):
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space: spaces.Space[Any] = spaces.Box(-3, 3, (2,), np.float32)
        if mixed:
            self.action_space = spaces.Dict(which=spaces.Discrete(4, start=2), how=spaces.Box(-3, 3, (1,), np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._left = int(self.np_random.integers(1, 9))
        self._worth = self.np_random.normal(size=2)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        if isinstance(action, dict):
            assert self.action_space.contains(action), action
            action = np.array([action["which"], action["how"][0]])
        return self._observation(), float(self._worth @ action), self._left == 0, False, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.normal(1, 3, 3).astype(np.float32)


def _sign(generator: np.random.Generator, t: int) -> float:
    return float(generator.choice([-1.0, 1.0]))


PROBES: dict[str, Callable[..., gym.Env]] = {
    "Constant": partial(Probe, lambda _, t: 0.0, lambda x, a, t: 1.0),
    "Observation": partial(Probe, _sign, lambda x, a, t: x),
    "Discounted": partial(Probe, lambda _, t: float(t), lambda x, a, t: float(t), length=2),
    "Action": partial(Probe, lambda _, t: 0.0, lambda x, a, t: 1.0 if a == 1 else -1.0),
    "ActionObservation": partial(Probe, _sign, lambda x, a, t: 1.0 if (a == 1) == (x > 0) else -1.0),
    "Target": partial(
        Probe, _sign, lambda x, a, t: -float((a[0] - 3 - x) ** 2), actions=spaces.Box(0, 6, (1,), np.float32)
    ),
    # 0 pays -1, 1 pays 1, and both lead to 1, where the episode is truncated: V(1) = 1 / (1 - GAMMA)
    "Truncated": partial(
        Probe, lambda g, t: float(g.integers(2)) if t == 0 else 1.0, lambda x, a, t: 2 * x - 1, truncates=True
    ),
    # 0.1 and 5.9 of [0, 6], so that tanh a = +-0.967
    "Squashed": partial(
        Probe, _sign, lambda x, a, t: -float((a[0] - 3 - 2.9 * x) ** 2), actions=spaces.Box(0, 6, (1,), np.float32)
    ),
    **CHOICES,
    "Counter": Counter,
    "Seeded": Seeded,
    "Raises": Raises,
    "Breaks": Breaks,
    "Fails": Fails,
    "NotFinite": NotFinite,
    "Misfit": InvalidOutput,
    "Strict": Strict,
    "Lasting": Lasting,
    "Saved": Saved,
    "Forgetful": Forgetful,
    "Unsavable": Unsavable,
    "Offers": Offers,
    "Halves": Halves,
    "Drift": Drift,
    "Endless": partial(Probe, _sign, lambda x, a, t: x, length=10**9),
}


@contextmanager
def registered() -> Iterator[None]:
    """The environments as probe/NAME-v0, and afterwards no more."""
    ids = [f"probe/{name}-v0" for name in PROBES]
    for id_, make in zip(ids, PROBES.values(), strict=True):
        gym.register(id_, entry_point=make)
    try:
        yield
    finally:
        for id_ in ids:
            del gym.registry[id_]


def make_trainer(*overrides: str) -> Trainer:
    """The run that ``rlopt train OVERRIDES`` would start."""
    here = [override for override in overrides if override.startswith("run_dir=")]
    config = resolved(*(override for override in overrides if override not in here))
    for override in here:
        config["run_dir"] = override.removeprefix("run_dir=")
    return trainer(config)


def resolved(*overrides: str) -> dict[str, Any]:
    """The configuration of these overrides, which the caller may change; composed once."""
    return copy.deepcopy(_resolved(overrides))


@cache
def _resolved(overrides: tuple[str, ...]) -> dict[str, Any]:
    return resolve(list(overrides))
