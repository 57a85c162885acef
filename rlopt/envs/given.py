"""Environments of one's own that are in no registry: a class, a function that makes one, or one that is there already.

    rlopt train env.id=./grid.py:Grid          a class, or a function without arguments that must be given
    rlopt.train(env=Grid)                      the same from Python
    rlopt.train(env=lambda: Wrapped(Grid()))   a function
    rlopt.train(env=Grid(size=5))              an environment, which is copied: a run needs several of them
    rlopt.train(env=gym.make_vec("Grid-v0", 8))  eight of a registered id, which rlopt makes anew

Each of these may also be a game of several agents, of PettingZoo's parallel API: see rlopt.guide.agents.

The options env.kwargs are the arguments of a class or a function. Where there is a parameter ``render_mode``, it gets
"rgb_array" for a video. There is no time limit but the environment's own; env.wrappers=[time_limit:200] adds one.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

import gymnasium as gym

from rlopt.envs.agents.game import is_game
from rlopt.envs.observations import describe_kind
from rlopt.errors import UserError, in_one_line

_INSTEAD = (
    "give what makes one of them, with env.num_envs=N, or register those that are tensors with a vector_entry_point, "
    "see rlopt.guide.extending"
)
_OF_MAKE_VEC = "num_envs", "vectorization_mode", "vector_kwargs", "max_episode_steps"
STAND_IN = "stand-in"  # the id of an environment that is not made


class Given(NamedTuple):
    """An environment that was given from Python."""

    id: str  # MODULE:NAME or FILE.py:NAME, by which the command line finds it too, or else python:NAME
    make: Callable[..., Any]


def given(thing: Any, nowhere: str) -> Given:
    """A class, a function or an environment as `make_own` takes it.

    Its id begins with ``nowhere`` where it cannot be imported by a name. Raises UserError for anything else.
    """
    if isinstance(thing, type) and issubclass(thing, gym.vector.VectorEnv):
        raise UserError(f"env must make one environment, not several side by side; {_INSTEAD}")
    if isinstance(thing, gym.Env) or is_game(thing):
        name = type(thing.unwrapped).__name__
        _copy(thing)  # so that an error is told at once
        return Given(f"{nowhere}:{name}", lambda: _copy(thing))
    if not callable(thing):
        raise UserError(f"env must be a name, a class, a function that makes an environment, or one; got {thing!r}")
    name = getattr(thing, "__qualname__", type(thing).__qualname__)
    return Given(f"{_place(thing, name) or nowhere}:{name.rpartition('.')[2]}", thing)


def named(envs: gym.vector.VectorEnv) -> dict[str, Any]:
    """The options by which rlopt makes the environments of `gymnasium.make_vec` anew, with its own means.

    Raises UserError where a registered id and its arguments do not say all of them.
    """
    spec = envs.spec
    kwargs = {} if spec is None else {k: v for k, v in spec.kwargs.items() if k not in _OF_MAKE_VEC}
    inner = [each for each in (envs.get_attr("spec") if hasattr(envs, "get_attr") else ()) if each]
    changed = envs.unwrapped is not envs or any(each.additional_wrappers for each in inner)
    limits = {each.max_episode_steps for each in (spec, *inner) if each}
    if spec is None or changed or limits != {gym.spec(spec.id).max_episode_steps}:
        raise UserError(f"env: these environments side by side are not those of a registered id alone; {_INSTEAD}")
    return {"env.id": spec.id, "env.num_envs": envs.num_envs, **({"env.kwargs": kwargs} if kwargs else {})}


def _place(thing: Any, name: str) -> str | None:
    """The module or the file in which a class or a function has this name; None where it has none."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    if getattr(module, name, None) is not thing:
        return None
    if getattr(module, "__name__", None) != "__main__":
        return str(module.__name__)  # type: ignore[union-attr]
    file = getattr(module, "__file__", None)
    return os.path.relpath(file) if file and file.endswith(".py") else None


def _copy(env: Any) -> Any:
    try:
        return deepcopy(env)
    except Exception as error:
        name = type(env.unwrapped).__name__
        raise UserError(
            f"env: this {name} cannot be copied, and a run needs several ({type(error).__name__}: "
            f"{in_one_line(error)}); give its class, or a function that makes one"
        ) from error


def make_own(make: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
    """The environment or the game that a class or a function makes. Raises UserError where it is none."""
    given = dict(kwargs)
    if "render_mode" in given and not _takes(make, "render_mode"):
        del given["render_mode"]  # whether it can be drawn shows later
    env = make(**given)
    if not isinstance(env, gym.Env) and not is_game(env):
        hint = "; an environment of the old gym is wrapped by shimmy" if hasattr(env, "step") else ""
        raise UserError(f"it makes {describe_kind(env)}, and a gymnasium.Env is wanted{hint}")
    return env


def _takes(make: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


class StandIn(gym.Env[Any, Any]):
    """An environment's spaces alone, for a policy that is loaded where the environment is not installed."""

    def __init__(self, observations: gym.Space, actions: gym.Space):
        self.observation_space, self.action_space = observations, actions
