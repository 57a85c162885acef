"""Replay: an environment is put back where it stood by beginning its episode again and repeating its actions.

An environment whose randomness is its ``np_random`` (classic control, Box2D, MuJoCo, LQR, most others) then stands
where it stood, to the bit, whatever it is made of. Its origin is what the episode began from: the seed of the reset, or
the generator's state before it. Nothing is taken on trust: the last observation must come out as it was, or the
environment is reset and its episode is lost. `reproducible` finds out beforehand where this will be so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from rlopt.envs.wrappers import FAULTS
from rlopt.errors import EnvironmentFault

Origin = dict[str, Any]  # {"seed": int}, or the state of a bit generator; what JSON can hold
_GENERATORS = {"PCG64": np.random.PCG64, "PCG64DXSM": np.random.PCG64DXSM}  # their states are plain numbers
_STEPS = 5  # of each part of a trial
LONGEST = 100_000  # transitions of an episode that are kept for replay; from there on a resume resets it


class Script(NamedTuple):
    """How to bring one environment to where it stood, and what to do where that fails."""

    origin: Origin | None  # None: it cannot be replayed
    actions: Any  # (n, ...) as the environment takes them
    observation: np.ndarray  # (D,) it must end with
    seed: int  # of the reset that takes the replay's place


class Replayed(NamedTuple):
    observation: Any
    origin: Origin | None  # of the episode it is now in
    exact: bool


def origin_of(env: gym.Env, seed: int | None = None) -> Origin | None:
    """What a reset with this seed, about to happen, will begin from; None where it cannot be told."""
    if seed is not None:
        return {"seed": seed}
    generator = getattr(env.unwrapped, "np_random", None)
    state = getattr(getattr(generator, "bit_generator", None), "state", None)
    return state if isinstance(state, dict) and state.get("bit_generator") in _GENERATORS else None


def replay(env: gym.Env, script: Script) -> Iterator[Replayed | None]:
    """Play the script in ``env``: None after every call of it, and at last where it stands.

    Where the observation is another, or an error ends it, the episode is a new one.
    """
    if script.origin is not None:
        try:
            observation = _begun(env, script.origin)
            for action in script.actions:
                yield None
                observation = env.step(action)[0]
            if _same(observation, script.observation, env.observation_space.dtype):
                yield Replayed(observation, script.origin, True)
                return
        except EnvironmentFault:  # it hangs
            raise
        except (Exception, SystemExit):  # noqa: S110  # the reset below will tell if the environment is at fault
            pass
        yield None
    yield Replayed(env.reset(seed=script.seed)[0], {"seed": script.seed}, False)


def reproducible(first: gym.Env, second: gym.Env) -> bool:
    """Whether ``second``, put by replay where ``first`` stands in its second episode, goes on as that does.

    An environment that fails, or hangs, is for the run to report, and passes here.
    """
    try:
        space, seed = first.action_space, 7
        space.seed(seed)
        before, script, after = ([space.sample() for _ in range(_STEPS)] for _ in range(3))
        first.reset(seed=seed)
        _course(first, before)
        origin = origin_of(first)
        if origin is None:
            return False
        here = [first.reset()[0], *_course(first, script)]
        there = [_begun(second, origin), *_course(second, script)]
        if len(here) == len(there) == _STEPS + 1:  # neither has ended
            here, there = [*here, *_course(first, after)], [*there, *_course(second, after)]
    except FAULTS:
        return True
    return len(here) == len(there) and all(map(_equal, here, there))


def _begun(env: gym.Env, origin: Origin) -> Any:
    if "seed" in origin:
        return env.reset(seed=origin["seed"])[0]
    bits = _GENERATORS[origin["bit_generator"]]()
    bits.state = origin
    env.unwrapped.np_random = np.random.Generator(bits)
    return env.reset()[0]


def _course(env: gym.Env, actions: Any) -> list[Any]:
    """Copies of what every step gives, up to the end of the episode."""
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


def _same(observation: Any, wanted: np.ndarray, dtype: Any) -> bool:
    """Whether it is ``wanted`` (D,) when it is stored as that was: in its space's type, then in that of the policy."""
    found = np.asarray(observation, dtype).reshape(-1).astype(wanted.dtype)
    return found.tobytes() == wanted.tobytes()
