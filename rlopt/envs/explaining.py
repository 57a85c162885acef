"""Explaining: the error message where an environment cannot be made, with what to type instead."""

from __future__ import annotations

import difflib
import re
from typing import Any

import gymnasium as gym

from rlopt.errors import UserError, first_line, in_one_line, needs_extra, where_raised

_EXTRAS = {  # module of an environment's code -> the extra of rlopt that installs what it needs
    "gymnasium.envs.mujoco": "mujoco",
    "gymnasium.envs.box2d": "box2d",
    "gymnasium.envs.classic_control": "classic",
}


def explain(error: BaseException, id: str, kwargs: dict[str, Any], own: bool) -> str:
    """The error message for what making the environment ``id`` raised; ``own`` where a class of the user's makes it."""
    if isinstance(error, UserError):  # of rlopt's own environments
        return f"env.id={id}: {error}"
    if own:
        return _explain_own(error, id, kwargs)
    if isinstance(error, ImportError) and id.count(":"):
        return f"env.id={id}: {error}"
    if isinstance(error, ImportError | gym.error.DependencyNotInstalled):
        spec = gym.registry.get(id)
        module = str(spec.entry_point) if spec else ""
        extra = next((extra for prefix, extra in _EXTRAS.items() if module.startswith(prefix)), None)
        missing = f"env.id={id} needs a package that is not installed"
        return needs_extra(missing, extra) if extra else f"{missing}: {first_line(error)}"
    if isinstance(error, gym.error.DeprecatedEnv):
        return f"env.id={id}: {error}"
    if isinstance(error, gym.error.Error):
        near = difflib.get_close_matches(id, list(gym.registry), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        if id not in gym.registry and ":" not in id:
            hint += "; one of your own: env.id=FILE.py:CLASS, --import MODULE or --extensions DIR"
        return f"env.id={id}: {first_line(error).partition(' Did you mean')[0].rstrip('.')}{hint}"
    return _explain_own(error, id, kwargs)


def _explain_own(error: BaseException, id: str, kwargs: dict[str, Any]) -> str:
    """The error message for what a constructor raised, which may be anything."""
    if isinstance(error, TypeError) and re.search(r"\b(unexpected|missing|positional)\b.* argument", str(error)):
        return f"env.kwargs={kwargs} do not suit env.id={id}: {first_line(error)}"
    given = f" with env.kwargs={kwargs}" if kwargs else ""
    cause = error.__cause__ if isinstance(error, TypeError) and type(error.__cause__) is TypeError else error
    said = f"{type(cause).__name__}: {in_one_line(cause)}".rstrip(": ")
    return f"env.id={id} cannot be made{given}: {said}{where_raised(cause)}"
