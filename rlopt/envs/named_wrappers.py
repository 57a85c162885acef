"""Wrappers by name: env.wrappers=[frame_stack:4,grayscale,resize:84], the first around all the others.

| entry            | wrapper of Gymnasium                                                          |
|---|---|
| atari, atari:84  | AtariPreprocessing: no-op starts, 4 frames a step of which the last two are pooled, grey, 84 x 84 |
| delay:N          | DelayObservation: each observation comes N steps later                        |
| filter:KEY+KEY   | FilterObservation: these parts of a Dict alone                                |
| frame_stack:N    | FrameStackObservation: the last N observations                                |
| grayscale        | GrayscaleObservation                                                          |
| minatar          | none: rlopt.envs.minatar, a MinAtar game as bytes that a checkpoint holds       |
| max_and_skip:N   | MaxAndSkipObservation: an action for N steps, the maximum of the last two observations |
| resize:N, resize:HxW | ResizeObservation, of pictures                                            |
| sticky:P         | StickyAction: with probability P the last action is taken again               |
| time_aware       | TimeAwareObservation: the step's number behind the observation                |
| time_limit:N     | TimeLimit: episodes are truncated after N steps                               |

One of your own is MODULE:NAME, a class or a function that takes an environment and returns one, in a module that the
command line names: --extensions DIR for DIR/wrapper/mine.py and wrapper.mine:Mine, or --import MODULE. A text behind a
further colon, MODULE:NAME:TEXT, is its second argument. A config file cannot bring code in by naming it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym

from rlopt.envs.minatar import MinAtar
from rlopt.envs.observations import describe_kind, describe_space
from rlopt.errors import UserError, in_one_line, needs_extra

OwnWrapper = Callable[..., gym.Env]


class _Entry(NamedTuple):
    """A wrapper of Gymnasium by its name, or of rlopt, and the argument that the text behind the colon stands for."""

    wrapper: str | type[gym.Wrapper]
    argument: str | None = None
    convert: Callable[[str], Any] | None = None  # raises ValueError
    wanted: str = ""  # with an example
    optional: bool = False


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def _share(text: str) -> float:
    if not 0 <= float(text) < 1:
        raise ValueError
    return float(text)


def _shape(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return _count(height), _count(width or height)


_TABLE = {
    "atari": _Entry("AtariPreprocessing", "screen_size", _count, "pixels along a side, such as atari:84", True),
    "delay": _Entry("DelayObservation", "delay", _count, "a number of steps, such as delay:2"),
    "filter": _Entry("FilterObservation", "filter_keys", lambda text: text.split("+"), "keys, such as filter:a+b"),
    "frame_stack": _Entry("FrameStackObservation", "stack_size", _count, "a number of frames, such as frame_stack:4"),
    "grayscale": _Entry("GrayscaleObservation"),
    "max_and_skip": _Entry("MaxAndSkipObservation", "skip", _count, "a number of steps, such as max_and_skip:4"),
    "minatar": _Entry(MinAtar),
    "resize": _Entry("ResizeObservation", "shape", _shape, "pixels, such as resize:84 or resize:84x96"),
    "sticky": _Entry("StickyAction", "repeat_action_probability", _share, "a probability, such as sticky:0.25"),
    "time_aware": _Entry("TimeAwareObservation"),
    "time_limit": _Entry("TimeLimit", "max_episode_steps", _count, "a number of steps, such as time_limit:200"),
}


def own_name(entry: str) -> tuple[str, str] | None:
    """Module and name of a wrapper that is not Gymnasium's; None for an entry that cannot be one."""
    module, _, rest = entry.partition(":")
    name = rest.partition(":")[0]
    return (module, name) if module not in _TABLE and name.isidentifier() else None


def check_entries(entries: Sequence[str]) -> None:
    """Raise ValueError for an entry that names no wrapper, or whose argument is none; own ones are not looked at."""
    for entry in entries:
        if own_name(entry) is None:
            _arguments(entry)


def _arguments(entry: str) -> dict[str, Any]:
    """The arguments of a wrapper of Gymnasium."""
    name, colon, text = entry.partition(":")
    if name not in _TABLE:
        near = difflib.get_close_matches(name, _TABLE, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"wrappers has {entry!r}, which is none{hint}; they are {', '.join(_TABLE)}, and MODULE:NAME of your own "
            "with --extensions DIR"
        )
    found = _TABLE[name]
    if not colon and (found.optional or found.argument is None):
        return {}
    try:
        if found.convert is None or found.argument is None:
            raise ValueError
        return {found.argument: found.convert(text)}
    except ValueError:
        wanted = f"takes {found.wanted}" if found.argument else "takes no argument"
        raise ValueError(f"wrappers has {entry!r}; {name} {wanted}") from None


def wrap(env: gym.Env, entries: Sequence[str], own: Mapping[str, OwnWrapper]) -> gym.Env:
    """``env`` in these wrappers, the first outermost; ``own`` are the user's own by their entries.

    Raises UserError where one cannot be put around what is within it.
    """
    for entry in reversed(entries):
        inside = describe_space(env.observation_space)
        try:
            if entry in own:
                text = entry.split(":", 2)[2:]
                env = own[entry](env, *text)
            else:
                known = _TABLE[entry.partition(":")[0]].wrapper
                wrapper = getattr(gym.wrappers, known) if isinstance(known, str) else known
                env = wrapper(env, **_arguments(entry))
        except gym.error.DependencyNotInstalled as error:
            missing = f"env.wrappers: {entry} needs a package that is not installed"
            raise UserError(needs_extra(missing, "atari")) from error
        except Exception as error:
            said = in_one_line(error) or type(error).__name__
            raise UserError(
                f"env.wrappers: {entry} cannot be put around observations of {inside}: {said}. The first wrapper of "
                "the list is the outermost"
            ) from error
        if not isinstance(env, gym.Env):
            raise UserError(f"env.wrappers: {entry} must return an environment, and gives {describe_kind(env)}")
    return env
