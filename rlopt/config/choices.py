"""Choices: the files of conf/, by group. Imports nothing heavy, so that --help is quick.

A file that begins from another of its group (``defaults: [kfac, _self_]``) is a *variant*: the same part with other
values, such as those of one preset.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ORDER = (
    "algo", "env", "policy", "critic", "objective", "estimator", "metric", "solver", "damping", "step", "schedule",
    "optimizer", "scheduler", "exploration", "experiment",
)  # fmt: skip
GROUPS = (*ORDER, "recipe")
PARTS = ("objective", "metric", "solver", "damping", "step")
ACTOR_PARTS = (*PARTS, "estimator")  # of the actor's update
UPDATE_GROUPS = (*PARTS, "schedule", "optimizer", "scheduler")  # of the actor's update and of the critic's
USUAL_DAMPING = "usual_damping"  # in a solver's file: the choice of damping that goes with it
SHARED_CRITIC = "rlopt.config.options.SharedCritic"  # the _target_ of critic=shared
_ID = re.compile(r"^  id: *([^\s#]+)", re.MULTILINE)


def conf_dir() -> Path:
    """The folder of yaml files: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


_extra: tuple[Path, ...] = ()


def extra_dirs() -> tuple[Path, ...]:
    """Further folders of choices, named on the command line; see rlopt.config.extensions."""
    return _extra


def set_extra_dirs(folders: tuple[Path, ...]) -> None:
    global _extra
    _extra = folders


def own_choices(group: str) -> list[str]:
    """Names that ``group=...`` takes without extensions. What several choices share begins with an underscore."""
    return sorted(p.stem for p in (conf_dir() / group).glob("[!_]*.yaml"))


def choices(group: str) -> list[str]:
    """Names that ``group=...`` takes."""
    return sorted({*own_choices(group), *(p.stem for folder in _extra for p in (folder / group).glob("[!_]*.yaml"))})


def parts(group: str) -> list[str]:
    """Names that ``group=...`` takes, without variants: one for each class."""
    return [name for name in choices(group) if not is_variant(group, name)]


def is_variant(group: str, choice: str) -> bool:
    """Whether a choice is another one with values of its own."""
    return any(not base.startswith("_") for base in defaults(group, choice)[0])


def defaults(group: str, choice: str) -> tuple[list[str], dict[str, str]]:
    """What a choice's file begins from: choices of its own group, and, by their keys, those of other groups.

    A key is spelled as Hydra does, without what only says how it is meant: override /optimizer@optimizer is
    optimizer@optimizer. A file that is wrong has none: Hydra says what is wrong with it.
    """
    entries = _entries(file(group, choice).read_text("utf-8"))
    bases = [entry for entry in entries if isinstance(entry, str) and entry != "_self_"]
    chosen = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
    others = {str(key): str(name) for key, name in chosen if name is not None}
    return bases, {key.removeprefix("override ").lstrip("/"): name for key, name in others.items()}


@cache
def _entries(text: str) -> Sequence[Any]:
    """The entries of a file's defaults list."""
    if "defaults:" not in text:
        return ()
    try:
        entries = yaml.safe_load(text)["defaults"]
    except (yaml.YAMLError, LookupError, TypeError):
        return ()
    return entries if isinstance(entries, list) else ()


def file(group: str, choice: str) -> Path:
    """The yaml file that a choice stands for."""
    files = (folder / group / f"{choice}.yaml" for folder in _extra)
    return next((f for f in files if f.is_file()), conf_dir() / group / f"{choice}.yaml")


def groups() -> dict[str, list[str]]:
    """group -> choices, in the order in which they are explained."""
    return {group: choices(group) for group in ORDER}


def described(group: str, choice: str) -> str:
    """The first comment of a choice's file, one line."""
    for line in file(group, choice).read_text("utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def environment_with_id(id: str) -> str | None:
    """The choice of env that stands for a registered environment: CartPole-v1 -> cartpole; None where there is none."""
    return _environments(_extra).get(id)


@cache
def _environments(folders: tuple[Path, ...]) -> dict[str, str]:
    found = {name: _ID.search(file("env", name).read_text("utf-8")) for name in choices("env")}
    return {match[1]: name for name, match in found.items() if match}


def stands_for(part: Any) -> str:
    """The choice that a part, its class or its ``_target_`` stands for, named like its file."""
    if isinstance(part, str):
        module = part.rpartition(".")[0]
    else:
        module = (part if isinstance(part, type) else type(part)).__module__
    return module.rpartition(".")[2]


def short_name(name: str) -> str:
    """The name that a user types for an option's full name: optimizer.lr for step.optimizer.lr."""
    return re.sub(r"^(critic\.)?step\.(optimizer|scheduler)\b", r"\1\2", name)


def nearest(name: str, known: list[str]) -> str:
    """` (did you mean X?)` where something close is known, else nothing."""
    lower = {one.lower(): one for one in reversed(known)}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f" (did you mean {lower[near[0]]}?)" if near else ""
