"""Small environments drawn from a seed: spaces that differ, odd but right outputs, faults, and what outlives an episode.

`Plan.draw(seed)` says what an environment does and what must come of a run in it:

| ends     | means                                                                      |
|---|---|
| trains   | the run ends with all its steps                                            |
| fault    | an EnvironmentFault that names the environment ``WHICH`` and the step      |
| refused  | a UserError before anything is made                                        |
| stopped  | the failure policy ends the run, unless nobody saw the bad number          |
"""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.rollout.seeding import Purpose, integer

WHICH = 2  # the environment, of 3, that fails; the seed of the run is 0
_FAILING_SEED = integer(0, Purpose.ENVIRONMENT, WHICH)

OBSERVATIONS = [
    lambda: spaces.Box(-1, 1, (), np.float32), lambda: spaces.Box(-np.inf, np.inf, (3,), np.float32),
    lambda: spaces.Box(-5, 5, (2, 2), np.float64), lambda: spaces.Box(-1e38, 1e38, (1,), np.float32),
    lambda: spaces.Box(0, 255, (3,), np.uint8), lambda: spaces.Box(0, 1, (3, 3, 4), np.uint8),
    lambda: spaces.Box(0, 9, (4, 5), np.uint8), lambda: spaces.Box(-7, 7, (2,), np.int64),
    lambda: spaces.Box(-1, 1, (2,), np.float16), lambda: spaces.Discrete(4), lambda: spaces.Discrete(3, start=-2),
    lambda: spaces.MultiDiscrete([2, 3]), lambda: spaces.MultiDiscrete([[2, 3]], start=[[1, -1]]),
    lambda: spaces.MultiBinary(3), lambda: spaces.MultiBinary((2, 2)),
    lambda: spaces.Dict(b=spaces.Discrete(3, start=1), a=spaces.Box(-1, 1, (2, 2), np.float32)),
    lambda: spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Dict(x=spaces.MultiBinary(2), y=spaces.Discrete(2))]),
    lambda: spaces.Dict(x=spaces.Tuple([spaces.MultiDiscrete([2, 2]), spaces.Box(0, 255, (2, 2), np.uint8)])),
]  # fmt: skip
ACTIONS = [
    lambda: spaces.Discrete(2), lambda: spaces.Discrete(3, start=5), lambda: spaces.MultiDiscrete([2, 3], start=[-1, 4]),
    lambda: spaces.MultiDiscrete([[2, 2]]), lambda: spaces.MultiBinary(2), lambda: spaces.MultiBinary((1, 2)),
    lambda: spaces.Box(-2, 2, (1,), np.float32), lambda: spaces.Box(-np.inf, np.inf, (2,), np.float64),
    lambda: spaces.Box(np.float32(-3e38), np.float32(3e38), (2,), np.float32), lambda: spaces.Box(0, 1, (2, 1), np.float64),
    lambda: spaces.Box(np.array([-1, -np.inf]), np.array([np.inf, 0.5]), dtype=np.float64),
]  # fmt: skip
NO_OBSERVATIONS = [
    lambda: spaces.Text(3), lambda: spaces.Sequence(spaces.Discrete(2)), lambda: spaces.Box(-1, 1, (0,)), lambda: None,
    lambda: spaces.Dict(), lambda: spaces.Tuple([spaces.Text(2)]), lambda: "Box(3,)",
]  # fmt: skip
NO_ACTIONS = [
    lambda: spaces.Text(3), lambda: spaces.Box(0, 5, (1,), np.int64), lambda: spaces.Box(-1, 1, (0,)), lambda: None,
    lambda: spaces.Dict(a=spaces.Discrete(2)), lambda: 2,
]  # fmt: skip
FAULTS = [
    "raises", "reset raises", "exits", "observation", "reset observation", "reward", "flag", "old step", "old reset",
    "long reset", "hangs", "dies",
]  # fmt: skip
REFUSALS = ["observations", "actions", "constructor", "constructor exits", "constructor dies", "differ", "options"]
LASTING = ["nothing", "level", "hidden level", "own generator", "late generator", "global", "python", "class", "saved"]


@dataclass(frozen=True)
class Plan:
    """What an environment does."""

    seed: int
    observations: int  # index of OBSERVATIONS
    actions: int
    length: int  # steps of an episode; 0: it never ends
    truncates: bool
    odd: bool  # outputs are of other types than usual, all of them right
    scale: float  # of rewards
    lasting: str  # what outlives an episode
    fault: str | None  # one of FAULTS, REFUSALS or "not finite"
    variant: int  # of the fault
    at: int  # step of the fault, counted from 1
    ends: str

    @classmethod
    def draw(cls, seed: int) -> Plan:
        rng = random.Random(seed)
        plan = cls(
            seed, rng.randrange(len(OBSERVATIONS)), rng.randrange(len(ACTIONS)), rng.choice([0, 1, 2, 3, 5, 8]),
            rng.random() < 0.4, rng.random() < 0.3, rng.choice([1.0, 1.0, 1e-6, 1e6]),
            "nothing", None, rng.randrange(10**6), rng.randint(1, 12), "trains",
        )  # fmt: skip
        kind = rng.random()
        if kind < 0.35:
            return replace(plan, lasting=rng.choice(LASTING))
        if kind < 0.75:
            fault = rng.choice(FAULTS)
            if fault in ("hangs", "dies") and rng.random() < 0.7:  # these take a process or time
                fault = "raises"
            needs_end = fault in ("reset raises", "reset observation", "old reset", "long reset")
            return replace(plan, fault=fault, ends="fault", length=plan.length or 4 if needs_end else plan.length)
        if kind < 0.92:
            return replace(plan, fault=rng.choice(REFUSALS), ends="refused")
        return replace(plan, fault="not finite", ends="stopped", observations=rng.choice([1, 2]))

    @property
    def fails_at(self) -> int:
        """The step of the fault; a reset fails at the step that ends an episode."""
        if "reset" not in (self.fault or ""):
            return self.at
        return -(-self.at // self.length) * self.length


class Generated(gym.Env):
    """The environment of a plan."""

    shared: ClassVar[int] = 0  # episodes of all instances
    instances: ClassVar[int] = 0

    def __init__(self, seed: int, plan: Plan | None = None):
        type(self).instances += 1
        self.plan = plan = plan or Plan.draw(seed)
        wrong = plan.fault if plan.ends == "refused" else None
        if wrong == "constructor":
            raise [ValueError, KeyError, TypeError, OSError][plan.variant % 4]("no\nsimulator")
        if wrong == "constructor exits":
            sys.exit(plan.variant % 3)
        if wrong == "constructor dies":
            os._exit(plan.variant % 3)
        if wrong == "options":
            raise TypeError("__init__() got an unexpected keyword argument 'seed'")
        self.observation_space: Any = OBSERVATIONS[plan.observations]()
        self.action_space: Any = ACTIONS[plan.actions]()
        if wrong == "observations":
            self.observation_space = NO_OBSERVATIONS[plan.variant % len(NO_OBSERVATIONS)]()
        elif wrong == "actions":
            self.action_space = NO_ACTIONS[plan.variant % len(NO_ACTIONS)]()
        elif wrong == "differ" and self.instances % 2:
            self.action_space = spaces.Discrete(9)
        self._fails, self._life, self._t, self.episodes = False, 0, 0, 0
        self.own = np.random.default_rng(3) if plan.lasting == "own generator" else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._fails |= seed == _FAILING_SEED
        self._t, lasting = 0, self.plan.lasting
        if lasting in ("level", "hidden level", "saved"):
            self.episodes += 1
        if lasting == "class":
            type(self).shared += 1
        observation = self._draw()
        if self._is_now("reset"):
            plan = self.plan
            if plan.fault == "reset raises":
                raise RuntimeError("the simulator did not start again")
            if plan.fault == "reset observation":
                return spoil(self.observation_space, observation, random.Random(plan.variant)), {}
            return observation if plan.fault == "old reset" else (observation, {}, 0.0)
        return observation, {}

    def step(self, action: Any) -> Any:
        assert _contains(self.action_space, action), f"{action!r} is not in {self.action_space}"
        self._t += 1
        self._life += self.plan.fault is not None or self.plan.lasting == "late generator"
        if self.plan.lasting == "late generator" and self._life == 60:
            self.own = np.random.default_rng()
        observation, reward, ends = self._draw(), self._reward(), self._t == self.plan.length
        over, cut = ends and not self.plan.truncates, ends and self.plan.truncates
        if self._is_now("step"):
            return self._fail(observation, reward, over, cut)
        if self.plan.odd:
            kind = self._t % 3
            reward = [np.float32(reward), np.array(reward), np.float64(reward)][kind]
            over, cut = [int(over), np.bool_(over), float(over)][kind], np.bool_(cut)
            observation = as_odd(self.observation_space, observation)
        return observation, reward, over, cut, {}

    def state(self) -> Any:
        return {"episodes": self.episodes, "t": self._t, "life": self._life}

    def restore(self, state: Any) -> None:
        self.episodes, self._t, self._life = state["episodes"], state["t"], state["life"]

    def __getattribute__(self, name: str) -> Any:
        """Only some have a state of their own."""
        if name in ("state", "restore") and object.__getattribute__(self, "plan").lasting != "saved":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def _is_now(self, where: str) -> bool:
        plan = self.plan
        is_reset = "reset" in (plan.fault or "")
        if not self._fails or plan.ends not in ("fault", "stopped") or is_reset != (where == "reset"):
            return False
        return self._life == plan.fails_at

    def _fail(self, observation: Any, reward: float, over: bool, cut: bool) -> Any:
        plan, variant = self.plan, random.Random(self.plan.variant)
        if plan.fault == "raises":
            raise variant.choice([RuntimeError, ValueError, TypeError, KeyError, GeneratorExit])("it\nbroke")
        if plan.fault == "exits":
            sys.exit(variant.choice([None, 0, 1, "bye"]))
        if plan.fault == "hangs":
            time.sleep(1000)
        if plan.fault == "dies":
            os._exit(7)
        if plan.fault == "observation":
            observation = spoil(self.observation_space, observation, variant)
        elif plan.fault == "reward":
            reward = variant.choice([None, "1.0", np.ones(1), [1.0, 2.0], 1j, {}])
        elif plan.fault == "flag":
            over = variant.choice([None, "yes", 2, np.zeros(2), 0.5, float("nan")])
        elif plan.fault == "old step":
            return observation, reward, over, {}
        elif plan.fault == "not finite":
            bad = variant.choice([np.nan, np.inf, -np.inf])
            if variant.random() < 0.5:
                reward = bad
            else:
                observation = np.full_like(observation, bad)
        return observation, reward, over, cut, {}

    def _draw(self) -> Any:
        if self.plan.lasting == "global":
            np.random.random()
        return draw(self.observation_space, self.np_random)

    def _reward(self) -> float:
        lasting, extra = self.plan.lasting, 0.0
        if self.own is not None:
            extra = self.own.random()
        elif lasting in ("level", "saved"):
            extra = self.episodes // 2
        elif lasting == "hidden level":
            extra = self.episodes // 1000
        elif lasting == "global":
            extra = np.random.random()
        elif lasting == "python":
            extra = random.random()
        elif lasting == "class":
            extra = self.shared // 5
        return self.plan.scale * float(self.np_random.normal() + extra)


def draw(space: Any, rng: np.random.Generator) -> Any:
    """An observation of the space, by this generator alone."""
    if isinstance(space, spaces.Dict):
        return {key: draw(part, rng) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(draw(part, rng) for part in space.spaces)
    if isinstance(space, spaces.Box):
        low, high = np.maximum(space.low.astype(float), -50), np.minimum(space.high.astype(float), 50)
        found = rng.uniform(low, high, space.shape)
        return np.asarray(np.round(found) if space.dtype.kind in "iu" else found, space.dtype)
    if isinstance(space, spaces.Discrete):
        return int(space.start + rng.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.start + rng.integers(0, space.nvec), space.dtype)
    return rng.integers(0, 2, space.shape).astype(space.dtype)


def as_odd(space: Any, observation: Any) -> Any:
    """The same observation in another form."""
    if isinstance(space, spaces.Box):
        return observation.tolist() if space.shape else np.array(observation, float)
    if isinstance(space, spaces.Discrete):
        return np.array(observation, np.int32)
    return observation


def spoil(space: Any, observation: Any, rng: random.Random) -> Any:
    """The observation, of wrong shape, type or value."""
    if isinstance(space, spaces.Dict):
        key = rng.choice(list(space.spaces))
        if rng.random() < 0.3:
            return {other: part for other, part in observation.items() if other != key}
        return {**observation, key: spoil(space.spaces[key], observation[key], rng)}
    if isinstance(space, spaces.Tuple):
        i = rng.randrange(len(space.spaces))
        if rng.random() < 0.3:
            return observation[:-1]
        return tuple(
            spoil(part, x, rng) if i == j else x
            for j, (part, x) in enumerate(zip(space.spaces, observation, strict=True))
        )
    if isinstance(space, spaces.Discrete):
        return rng.choice([space.start - 1, space.start + space.n, float(observation), [observation], None, "0"])
    array = np.asarray(observation)
    ways = [
        None,
        "text",
        array[None],
        np.concatenate([array.reshape(-1), array.reshape(-1)]),
        array + 1j,
        array.astype(str),
    ]
    if isinstance(space, spaces.Box) and array.ndim > 1:
        ways.append(array.reshape(-1))
    if isinstance(space, spaces.Box) and space.dtype.kind in "iu":
        ways += [array / 2 + 0.25, array.astype(object)]
    if isinstance(space, spaces.Box) and space.dtype == np.uint8:
        ways += [array.astype(int) - 300, array.astype(int) + 300]
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        ways += [array.astype(int) + 5, array.astype(int) - 9, array / 2]
    return rng.choice(ways)


def _contains(space: Any, action: Any) -> bool:
    inside = space.contains(action if isinstance(space, spaces.Box) or space.shape else int(action))
    return inside and (not isinstance(space, spaces.Box) or bool(np.isfinite(action).all()))
