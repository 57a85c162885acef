"""Games of PettingZoo by the names of their modules: env.id=mpe2.simple_spread_v3 or pettingzoo.sisl.multiwalker_v9.

Only modules of these two packages have such names, since a config.yaml may come from a stranger. A game of one's own is
a function or a class, like every environment of one's own: see rlopt.envs.given.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import warnings
from collections.abc import Mapping
from typing import Any

from rlopt.errors import UserError, in_one_line, needs_extra

PACKAGES = ("pettingzoo.", "mpe2.")


def is_zoo(id: str) -> bool:
    """Whether an id names a module of PettingZoo's games."""
    return id.startswith(PACKAGES) and ":" not in id


def may_be_game(spec: Any) -> bool:
    """Whether only making the environment of an EnvSpec tells if it has several agents."""
    return spec.agents is None and (spec.own is not None or is_zoo(spec.id))


def make(id: str, kwargs: Mapping[str, Any]) -> Any:
    """The game ``parallel_env(**kwargs)`` of the module ``id``. Raises UserError where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer versions advise a registry of their own, which older ones have not
            importlib.import_module(id.partition(".")[0])
            found = importlib.import_module(id)
    except ImportError as error:
        missing = error.name or id
        if missing.startswith(PACKAGES) and id.startswith(missing):
            raise UserError(f"there is no game {id}{_near(id)}") from error
        raise UserError(needs_extra(f"it needs a package that is not installed ({missing})", "pettingzoo")) from error
    except Exception as error:
        raise UserError(f"it cannot be imported: {in_one_line(error)}") from error
    if not hasattr(found, "parallel_env"):
        raise UserError("it has no parallel_env: its agents act in turns, which is not served")
    return found.parallel_env(**kwargs)


def _near(id: str) -> str:
    """`; did you mean ...?`: games of the same package with similar names; pettingzoo.mpe has become mpe2."""
    package, _, name = id.replace("pettingzoo.mpe.", "mpe2.").rpartition(".")
    try:
        paths = importlib.import_module(package).__path__
    except (ImportError, AttributeError):
        return ""
    games = [module.name for module in pkgutil.iter_modules(paths) if "_v" in module.name]
    near = difflib.get_close_matches(name, games, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(f'{package}.{n}' for n in near)}?" if near else ""
