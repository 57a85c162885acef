"""A trial, before a run: can a resumed run continue in the middle of this environment's episodes, to the bit?

Two environments are tried. The first lives through several episodes; the second, which has a shorter past, must do what
the first does, after a replay of its episode, or with the state that it saved. Afterwards the attributes of both are
compared: one that differs, such as the level of a curriculum, has outlived an episode, and may change what comes later.
So may the object of a simulator that an environment keeps over its episodes, into which rlopt cannot look.

A trial is short and cannot find everything. So every replay is checked again when a run is resumed
(`rlopt.envs.replay`).
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlopt.envs.replay import Script, begin, layers, origin_of, replay, save
from rlopt.envs.wrappers import FAULTS

_EPISODES = 4  # of the first environment that the second replays
_STEPS = 64  # of each, at most
_SECONDS = 0.3  # for each part of the trial, after its first _FEWEST steps
_FEWEST = 5
_MOST = 10_000  # attributes that are compared
_SEED = 7
# packages whose objects are compared, or hold nothing that outlives an episode
_LOOKED_INTO = ("builtins", "numpy", "gymnasium", "mujoco", "collections", "random", "logging", "pathlib", "rlopt")
_NUMBERS = (bool, int, float, complex, str, bytes, type(None))
# attributes that say nothing of what an environment will do
_IGNORED = ("_np_random_seed", "spec", "_cached_spec", "metadata", "render_mode", "screen", "clock", "window", "viewer")


class Trial(NamedTuple):
    """What a trial found."""

    replays: bool  # running episodes can be replayed
    warning: str | None  # what is to be said of the environment before a run; None: nothing was found


NEW_EPISODES = "if this run is stopped and resumed, its environments will begin new episodes"
_NOT_EQUAL = "if this run is stopped and resumed, it may not go on to the bit"
NO_REPLAY = Trial(False, f"cannot be replayed (envs/replay.py): {NEW_EPISODES}")


class CountedCalls(gym.Wrapper[Any, Any, Any, Any]):
    """Counts in ``calls[0]`` the steps and resets that ``env`` came back from."""

    def __init__(self, env: gym.Env, calls: list[int]):
        super().__init__(env)
        self._calls = calls

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        found = self.env.step(action)
        self._calls[0] += 1
        return found

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        found = self.env.reset(seed=seed, options=options)
        self._calls[0] += 1
        return found


def try_to_continue(first: gym.Env, second: gym.Env) -> Trial:
    """Try whether ``second`` can continue in the middle of an episode of ``first``.

    An environment that fails or hangs passes: the run itself will report the failure.
    """
    shared = class_values(type(first.unwrapped))
    try:
        first.action_space.seed(_SEED)
        observation, _ = first.reset(seed=_SEED)
        if save(first) is not None:
            return _try_saved_state(first, second)
        deadline = time.monotonic() + 4 * _SECONDS
        for _ in range(_EPISODES):
            _play(first, _actions(first), [])  # so that its past is longer than that of the second
            origin = origin_of(first)
            observation, _ = first.reset()
            here = [np.array(observation)]
            if origin is None or not _continue(first, second, here, [np.array(begin(second, origin))]):
                return NO_REPLAY
            if time.monotonic() > deadline:
                break
        differing = _differing_attribute(first, second)
        foreign = _foreign_objects(first)
        first.reset()
        kept = [name for name, thing in _foreign_objects(first).items() if foreign.get(name) is thing]
    except FAULTS:
        return Trial(True, None)
    now = class_values(type(first.unwrapped))
    if name := changed_value(shared, now) or differing:
        return Trial(
            True,
            f"has something that outlives an episode, {name}, which a replay does not bring back: {_NOT_EQUAL}. "
            "Methods state() and restore(state) would help (envs/replay.py)",
        )
    if kept:
        return Trial(
            True, f"keeps {kept[0]} over its episodes, into which rlopt cannot look: {_NOT_EQUAL} (envs/replay.py)"
        )
    return Trial(True, None)


def _try_saved_state(first: gym.Env, second: gym.Env) -> Trial:
    """The trial of an environment with ``state()`` and ``restore(state)``."""
    for _ in range(_EPISODES):
        _play(first, _actions(first), [])
        observation, _ = first.reset()
    last: list[Any] = []
    _play(first, _actions(first)[:_FEWEST], last)
    if last and (last[-1][2] or last[-1][3]):
        observation, _ = first.reset()
    script = Script(None, (), np.asarray(observation).reshape(-1), _SEED + 1, saved=save(first))
    if replay(second, script).exact and _continue(first, second, [], []):
        return Trial(False, None)
    return Trial(False, f"has state() and restore(state) that do not make another one go on as it does: {_NOT_EQUAL}")


def _continue(first: gym.Env, second: gym.Env, here: list[Any], there: list[Any]) -> bool:
    """Whether both give the same to the end of this episode and in the next; ``here`` and ``there`` are their past."""
    for _ in range(2):
        actions, begun = _actions(first), len(here)
        _play(first, actions, here)
        _play(second, actions[: len(here) - begun], there, timed=False)
        if len(here) != len(there) or not all(map(_equal, here, there)):
            return False
        here.append(np.array(first.reset()[0]))
        there.append(np.array(second.reset()[0]))
    return _equal(here[-1], there[-1])


def _actions(env: gym.Env) -> list[Any]:
    return [env.action_space.sample() for _ in range(_STEPS)]


def _play(env: gym.Env, actions: list[Any], found: list[Any], timed: bool = True) -> None:
    """Add copies of what every step returns to ``found``, up to the end of the episode.

    If ``timed``, up to the end of the trial's time: the second environment must do as many steps as the first.
    """
    deadline = time.monotonic() + _SECONDS
    for i, action in enumerate(actions):
        if timed and i >= _FEWEST and time.monotonic() > deadline:
            return
        observation, reward, terminated, truncated, _ = env.step(action)
        found.append((np.array(observation), reward, terminated, truncated))
        if terminated or truncated:
            return


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(map(_equal, a, b))
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def class_values(cls: type[Any]) -> dict[str, Any]:
    """Copies of the plain attributes that an environment's classes have, by name, without those of Gymnasium's."""
    own = [base for base in cls.__mro__ if base.__module__.partition(".")[0] not in ("gymnasium", "builtins", "typing")]
    return {
        f"{base.__name__}.{name}": deepcopy(value)
        for base in own
        for name, value in vars(base).items()
        if not name.startswith("__") and isinstance(value, (*_NUMBERS, list, dict, set, np.ndarray))
    }


def changed_value(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The name of the first of the `class_values` that has changed, if any has."""
    changed = (name for name in before if name not in now or _difference(before[name], now[name], name, set(), ""))
    return next(changed, None)


def _differing_attribute(first: gym.Env, second: gym.Env) -> str | None:
    """The first attribute in which two environments differ that have lived through the same episode."""
    for a, b in zip(layers(first), layers(second), strict=False):
        module = type(a).__module__
        if module.startswith(("gymnasium.wrappers", "rlopt.envs")):
            continue
        found = _difference(vars(a), vars(b), type(a).__name__, set(), module.partition(".")[0])
        if found:
            return found
    return None


def _foreign_objects(env: gym.Env) -> dict[str, Any]:
    """Attributes that are objects of another package than the environment's, such as a simulator's world, by name."""
    found = {}
    for layer in layers(env):
        if type(layer).__module__.startswith("rlopt.envs"):
            continue
        known = (type(layer).__module__.partition(".")[0], *_LOOKED_INTO)
        for name, value in vars(layer).items():
            if name not in _IGNORED and _package_of(value) not in known and not isinstance(value, gym.Env | Callable):
                found[f"{type(layer).__name__}.{name}"] = value
    return found


def _package_of(thing: Any) -> str:
    """The package of a thing's class. Classes of compiled code may have no module."""
    return str(getattr(type(thing), "__module__", "")).partition(".")[0]


def _difference(a: Any, b: Any, name: str, seen: set[int], package: str) -> str | None:
    """The name of what differs within two values, as far as that can be seen from Python; None where nothing does.

    Objects of other packages than ``package``, such as a simulator's, are not looked into.
    """
    if a is b or id(a) in seen or len(seen) > _MOST or isinstance(a, gym.Space):
        return None
    seen.add(id(a))
    if type(a) is not type(b) and str(type(a)) != str(type(b)):  # a class within a function is made at each call
        return name
    pairs: list[tuple[Any, Any, str]] = []
    if isinstance(a, _NUMBERS):
        return None if a == b or a != a else name
    if isinstance(a, np.ndarray | np.generic):
        same = a.dtype == b.dtype and a.shape == b.shape and (a.dtype.hasobject or a.tobytes() == b.tobytes())
        return None if same else name
    if isinstance(a, np.random.Generator):
        pairs = [(a.bit_generator.state, b.bit_generator.state, name)]
    elif isinstance(a, np.random.RandomState):
        pairs = [(a.get_state(), b.get_state(), name)]
    elif isinstance(a, random.Random):
        pairs = [(a.getstate(), b.getstate(), name)]
    elif isinstance(a, dict):
        if a.keys() != b.keys():
            return f"{name}.{next(iter(a.keys() ^ b.keys()))}"
        pairs = [(a[key], b[key], f"{name}.{key}") for key in a if key not in _IGNORED]
    elif isinstance(a, list | tuple | deque):
        if len(a) != len(b):
            return name
        pairs = [(x, y, f"{name}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True))]
    elif isinstance(a, set | frozenset):
        return None if len(a) == len(b) else name
    elif package and _package_of(a) == package and hasattr(a, "__dict__"):
        pairs = [(vars(a), vars(b), name)]
    return next((found for x, y, inner in pairs if (found := _difference(x, y, inner, seen, package))), None)
