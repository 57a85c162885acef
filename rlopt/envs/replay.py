"""Replay: bring an environment back to a state by starting its episode again and repeating its actions.

This gives the same state, bit for bit, for every environment whose only randomness is its ``np_random`` and in which
nothing outlives an episode (classic control, MuJoCo, LQR and most others). An episode starts from its *origin*: the
seed of the reset, or the state of the generator before it. Every replay is checked: if one of its observations or
rewards is not the recorded one, the environment is reset and its episode is lost. `rlopt.envs.trial` tries replays
before a run.

An environment in which something outlives an episode may have two methods instead, in itself or in a wrapper:

    state() -> tree          numbers, text, None, numpy arrays, and lists and dictionaries of them
    restore(tree)            makes a new environment, which was reset, go on as the one that gave the tree

``np_random`` and Gymnasium's time limit need not be in the tree. ``state()`` is called after every rollout.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from rlopt.envs.observations import InvalidOutput
from rlopt.errors import EnvironmentFault

Change = Mapping[str, Any]  # what a callback changes in an environment, see rlopt.envs.changes
Origin = dict[str, Any]  # {"seed": int}, or the state of a bit generator; JSON can hold both
_GENERATORS = {"PCG64": np.random.PCG64, "PCG64DXSM": np.random.PCG64DXSM}  # their states are plain numbers
LONGEST = 100_000  # transitions; the actions of a longer episode are not kept, and a resumed run resets it


class Script(NamedTuple):
    """An episode to be replayed, or a state to be restored, and the reset to be made where that fails."""

    origin: Origin | None  # None: the episode cannot be replayed
    actions: Any  # (n, ...) as the environment takes them
    observation: np.ndarray  # (D,) the last one, which the replay must reach
    seed: int  # of the reset that takes the place of a failed replay
    check: int | None = None  # of all observations and rewards of the episode, see `extend_check`; None: not known
    saved: dict[str, Any] | None = None  # what `save` gave
    # what callbacks changed, each with the steps of the episode that came before it; -1: before the episode began
    changes: tuple[tuple[int, Callable[[gym.Env], None]], ...] = ()


class Replayed(NamedTuple):
    """An environment after a replay."""

    observation: Any
    origin: Origin | None  # of its present episode
    exact: bool  # False: the replay failed and a new episode has begun


def origin_of(env: gym.Env, seed: int | None = None) -> Origin | None:
    """The origin of the episode that a reset with ``seed`` would begin now; None where nobody can know it."""
    if seed is not None:
        return {"seed": seed}
    generator = getattr(env.unwrapped, "np_random", None)
    state = getattr(getattr(generator, "bit_generator", None), "state", None)
    return state if isinstance(state, dict) and state.get("bit_generator") in _GENERATORS else None


def replay(env: gym.Env, script: Script, after_call: Callable[[], object] = lambda: None) -> Replayed:
    """Play the script in ``env``, and call ``after_call`` after each of the environment's calls.

    Where the last observation is another one, or an error ends the replay, the environment begins a new episode.
    """
    ahead = deque(script.changes)

    def change(step: float) -> None:
        while ahead and ahead[0][0] <= step:
            ahead.popleft()[1](env)

    change(-1 if script.saved is None and script.origin is not None else math.inf)
    if script.origin is not None or script.saved is not None:
        try:
            if script.saved is not None:
                env.reset(seed=script.seed)
                after_call()
                _put_back(env, script.saved)
                after_call()
                return Replayed(script.observation, None, True)
            assert script.origin is not None
            observation, found = begin(env, script.origin), 0
            for step, action in enumerate(script.actions):
                change(step)
                after_call()
                row = _as_stored(observation, script.observation, env.observation_space.dtype)
                observation, reward = env.step(action)[:2]
                found = extend_check(found, row[None], np.array([reward], np.float64))
            last = _as_stored(observation, script.observation, env.observation_space.dtype)
            if last.tobytes() == script.observation.tobytes() and script.check in (None, found):
                after_call()
                return Replayed(observation, script.origin, True)
        except EnvironmentFault:  # the environment hangs
            raise
        except (Exception, SystemExit):  # noqa: S110  # if the environment is broken, the reset below will fail too
            pass
        after_call()
    change(math.inf)
    observation = env.reset(seed=script.seed)[0]
    after_call()
    return Replayed(observation, {"seed": script.seed}, False)


def extend_check(check: int, observations: np.ndarray, rewards: np.ndarray) -> int:
    """The check of an episode, with further observations (n, D), each before an action, and the rewards (n,) of these.

    A checksum: it does not depend on how the episode is divided.
    """
    with np.errstate(over="ignore"):
        columns = [np.ascontiguousarray(observations), rewards.astype(np.float32)[:, None]]
    return zlib.crc32(np.concatenate([x.view(np.uint8) for x in columns], 1).tobytes(), check)


def save(env: gym.Env) -> dict[str, Any] | None:
    """The environment's own state, with its generator's and the time limits'; None where it has no ``state()``.

    Raises InvalidOutput, with the place in the tree, for what a checkpoint cannot hold.
    """
    if (methods := _methods(env)) is None:
        return None
    limits = [layer._elapsed_steps for layer in layers(env) if isinstance(layer, TimeLimit)]
    return {"state": plain_tree(methods[0](), "state()"), "generator": origin_of(env), "limits": limits}


def _put_back(env: gym.Env, saved: dict[str, Any]) -> None:
    """Bring an environment that was reset to the state that `save` gave. Raises ValueError where it cannot."""
    if (methods := _methods(env)) is None:
        raise ValueError("the environment has no restore(state)")
    methods[1](as_given(saved["state"]))
    if saved["generator"] is not None:
        env.unwrapped.np_random = generator_of(saved["generator"])
    limits = [layer for layer in layers(env) if isinstance(layer, TimeLimit)]
    for layer, steps in zip(limits, saved["limits"], strict=True):
        layer._elapsed_steps = steps


def layers(env: gym.Env) -> Iterator[gym.Env]:
    """The environment and what it wraps, from the outside to the inside."""
    while True:
        yield env
        if not isinstance(env, gym.Wrapper):
            return
        env = env.env


def _methods(env: gym.Env) -> tuple[Callable[[], Any], Callable[[Any], Any]] | None:
    """``state`` and ``restore`` of the environment or of one of its wrappers."""
    try:
        methods = env.get_wrapper_attr("state"), env.get_wrapper_attr("restore")
    except AttributeError:
        return None
    return methods if callable(methods[0]) and callable(methods[1]) else None


def plain_tree(node: Any, name: str) -> Any:
    """A copy of the tree, in which numpy's numbers are arrays without axes and tuples are lists."""
    if isinstance(node, np.ndarray | np.generic) and node.dtype.kind in "biufc":
        return np.array(node)
    if isinstance(node, dict) and all(type(key) in (str, int) for key in node):
        return {key: plain_tree(inner, f"{name}[{key!r}]") for key, inner in node.items()}
    if isinstance(node, list | tuple):
        return [plain_tree(inner, f"{name}[{i}]") for i, inner in enumerate(node)]
    if type(node) in (bool, int, float, str, type(None)):
        return node
    wanted = "numbers, text, None, arrays of numbers, lists, and dictionaries whose keys are text or whole numbers"
    raise InvalidOutput(f"{name} of type {type(node).__name__} where a checkpoint holds {wanted}")


def as_given(node: Any) -> Any:
    """A copy of the tree, in which arrays without axes are numpy's numbers again."""
    if isinstance(node, dict):
        return {key: as_given(inner) for key, inner in node.items()}
    if isinstance(node, list):
        return [as_given(inner) for inner in node]
    return node.copy()[()] if isinstance(node, np.ndarray) else node


def begin(env: gym.Env, origin: Origin) -> Any:
    """Reset to the beginning of the episode with this origin; its first observation."""
    if "seed" in origin:
        return env.reset(seed=origin["seed"])[0]
    env.unwrapped.np_random = generator_of(origin)
    return env.reset()[0]


def generator_of(state: Origin) -> np.random.Generator:
    """The generator whose bit generator is in ``state``."""
    bits = _GENERATORS[state["bit_generator"]]()
    bits.state = state
    return np.random.Generator(bits)


def _as_stored(observation: Any, like: np.ndarray, dtype: Any) -> np.ndarray:
    """``observation``, stored in its space's type and then in the policy's, that of ``like`` (D,)."""
    with np.errstate(over="ignore"):
        return np.asarray(observation, dtype).reshape(-1).astype(like.dtype)
