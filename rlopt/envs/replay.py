"""Replay: bring an environment back to a state by starting its episode again and repeating its actions.

This gives the same state, bit for bit, for every environment whose only randomness is its ``np_random`` (classic
control, Box2D, MuJoCo, LQR and most others). An episode starts from its *origin*: the seed of the reset, or the state
of the generator before it. Every replay is checked: if its last observation is not the recorded one, the environment is
reset and its episode is lost. `is_reproducible` tells before a run whether replays will succeed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlopt.envs.wrappers import FAULTS
from rlopt.errors import EnvironmentFault

Origin = dict[str, Any]  # {"seed": int}, or the state of a bit generator; JSON can hold both
_GENERATORS = {"PCG64": np.random.PCG64, "PCG64DXSM": np.random.PCG64DXSM}  # their states are plain numbers
_STEPS = 5  # in each part of a trial
LONGEST = 100_000  # transitions; the actions of a longer episode are not kept, and a resumed run resets it


class Script(NamedTuple):
    """An episode to be replayed, and the reset to be made where that fails."""

    origin: Origin | None  # None: the episode cannot be replayed
    actions: Any  # (n, ...) as the environment takes them
    observation: np.ndarray  # (D,) the last one, which the replay must reach
    seed: int  # of the reset that takes the place of a failed replay


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
    if script.origin is not None:
        try:
            observation = _begin(env, script.origin)
            for action in script.actions:
                after_call()
                observation = env.step(action)[0]
            if _matches(observation, script.observation, env.observation_space.dtype):
                after_call()
                return Replayed(observation, script.origin, True)
        except EnvironmentFault:  # the environment hangs
            raise
        except (Exception, SystemExit):  # noqa: S110  # if the environment is broken, the reset below will fail too
            pass
        after_call()
    observation = env.reset(seed=script.seed)[0]
    after_call()
    return Replayed(observation, {"seed": script.seed}, False)


def is_reproducible(first: gym.Env, second: gym.Env) -> bool:
    """Try whether ``second``, after a replay of the second episode of ``first``, continues exactly as ``first``.

    An environment that fails or hangs passes: the run itself will report the failure.
    """
    try:
        space, seed = first.action_space, 7
        space.seed(seed)
        before, script, after = ([space.sample() for _ in range(_STEPS)] for _ in range(3))
        first.reset(seed=seed)
        _play(first, before)
        origin = origin_of(first)
        if origin is None:
            return False
        here = [first.reset()[0], *_play(first, script)]
        there = [_begin(second, origin), *_play(second, script)]
        if len(here) == len(there) == _STEPS + 1:  # neither episode has ended
            here, there = [*here, *_play(first, after)], [*there, *_play(second, after)]
    except FAULTS:
        return True
    return len(here) == len(there) and all(map(_equal, here, there))


def _begin(env: gym.Env, origin: Origin) -> Any:
    """Reset to the beginning of the episode with this origin; its first observation."""
    if "seed" in origin:
        return env.reset(seed=origin["seed"])[0]
    bits = _GENERATORS[origin["bit_generator"]]()
    bits.state = origin
    env.unwrapped.np_random = np.random.Generator(bits)
    return env.reset()[0]


def _play(env: gym.Env, actions: Any) -> list[Any]:
    """Copies of what every step returns, up to the end of the episode."""
    found: list[Any] = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        found.append((np.array(observation), reward, terminated, truncated))
        if terminated or truncated:
            break
    return found


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return all(map(_equal, a, b))
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _matches(observation: Any, wanted: np.ndarray, dtype: Any) -> bool:
    """True if ``observation``, stored in its space's type and then in the policy's, gives ``wanted`` (D,)."""
    found = np.asarray(observation, dtype).reshape(-1).astype(wanted.dtype)
    return found.tobytes() == wanted.tobytes()
