"""What a run and its checkpoint must share: configuration, versions, and the structure of the saved state.

A resumed run may have other values of the options in FREE, which do not touch the updates that were done. All other
options must be as they were.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor

from rlopt.checkpoint.run_state import versions
from rlopt.errors import UserError
from rlopt.files import flatten

FREE = (
    "total_steps", "checkpoint.every_updates", "checkpoint.every_seconds", "checkpoint.keep", "evaluation.episodes",
    "evaluation.every_updates", "evaluation.max_steps", "env.timeout", "env.nconmax", "env.njmax", "workers",
    "max_bad_updates",
)  # fmt: skip
_DERIVED = ("run_dir", "updates")  # the folder's path now; total_steps / batch_size
SIZES = ("env.num_envs", "policy.", "critic.")  # options on which the sizes of the saved state depend
_COUNTERS = ("steps", "updates", "skipped", "bad_in_a_row", "seconds", "wall_seconds")
_HORIZONS = ("total_iters", "T_max", "total_steps")  # a learning-rate schedule's last update


def change_options(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with other values of some options, which ``overrides`` has by their dotted names.

    Raises UserError for an option that cannot be changed in the middle of a run.
    """
    new = deepcopy(dict(config))
    for name, value in overrides.items():
        if name not in FREE:
            raise UserError(f"{name} cannot be changed in the middle of a run; resume takes {', '.join(FREE)}")
        *groups, last = name.split(".")
        node = new
        for group in groups:
            node = node[group]
        node[last] = _as_integer(value)
    for name in ("total_steps", "batch_size"):  # a run may have been begun with 1e5
        if name in new:
            new[name] = _as_integer(new[name])
    total, batch = new.get("total_steps"), new.get("batch_size")
    if "total_steps" in overrides and isinstance(total, int) and isinstance(batch, int) and batch > 0:
        new["updates"] = -(-total // batch)
        _check_schedules(config, new["updates"])
    return new


def check_same_config(config: Mapping[str, Any], saved: Mapping[str, Any], within: Sequence[str] = ("",)) -> None:
    """Raise UserError if config.yaml and the checkpoint's copy ``saved`` differ in an option that is not FREE.

    Only options whose names begin with one of ``within`` are looked at, by default all.
    """
    for name, here, there in config_differences(config, saved):
        if name not in (*FREE, *_DERIVED) and name.startswith(tuple(within)):
            raise UserError(
                f"config.yaml has {name}={here}, and the checkpoint was made with {there}; put it back, or train anew"
            )


def config_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(dotted name, value in ``a``, value in ``b``) of each option in which two configurations differ."""
    here, there = flatten(a), flatten(b)
    for name in sorted(here.keys() | there.keys()):
        values = _as_json(here.get(name, "not there")), _as_json(there.get(name, "not there"))
        if values[0] != values[1]:
            yield name, *values


def version_differences(saved: Mapping[str, str]) -> str | None:
    """The versions in a checkpoint that are others here, in words; None if there is no difference."""
    here = versions()
    differing = [
        f"{name} {saved.get(name, 'absent')} (here {here.get(name, 'absent')})"
        for name in sorted(here.keys() | saved.keys())
        if here.get(name) != saved.get(name)
    ]
    return ", ".join(differing) or None


def check_counters(tree: Mapping[str, Any]) -> None:
    """Raise ValueError if a counter of a checkpoint is none: a finite number, 0 or above."""
    for name in _COUNTERS:
        count = tree[name]
        wanted = int if name in _COUNTERS[:4] else (int, float)
        if not isinstance(count, wanted) or isinstance(count, bool) or not (math.isfinite(count) and count >= 0):
            raise ValueError(f"{name} is {count!r}")


def check_structure(found: Any, like: Any, where: str) -> None:
    """Raise ValueError if ``found``, from a checkpoint, has other names, kinds, shapes or dtypes than ``like``.

    The message begins with the path in the tree, ``where``. An empty dictionary or None in ``like`` is a part's state
    before its first step; ``found`` may hold any tensors and numbers there, but no text.
    """
    if isinstance(like, Tensor) and like.ndim:
        wanted = f"{_describe(like)}"
        _require(isinstance(found, Tensor) and _describe(found) == wanted, where, wanted, found)
    elif isinstance(like, dict):
        _require(isinstance(found, dict), where, "a group of entries", found)
        for name, inner in like.items():
            if name not in found:
                raise ValueError(f"{where}/{name} is missing")
            check_structure(found[name], inner, f"{where}/{name}")
        if where != "checkpoint":
            for name in found.keys() - like.keys():
                _check_filled(found[name], f"{where}/{name}")
    elif isinstance(like, (list, tuple)):
        _require(isinstance(found, (list, tuple)) and len(found) == len(like), where, f"a list of {len(like)}", found)
        for i, inner in enumerate(like):
            check_structure(found[i], inner, f"{where}/{i}")
    elif isinstance(like, (bool, str)):
        _require(type(found) is type(like), where, "text" if isinstance(like, str) else "true or false", found)
    elif like is not None:  # a number, or a tensor of no axes
        plain = isinstance(found, (int, float)) and not isinstance(found, bool)
        _require(plain or (isinstance(found, Tensor) and found.ndim == 0), where, "a number", found)
    else:
        _check_filled(found, where)


def _check_schedules(config: Mapping[str, Any], updates: int) -> None:
    """Raise UserError if a learning-rate schedule has its end ahead, or with the run, and ``updates`` go beyond it.

    The run was planned to end there, although it may have been shortened since. A schedule that ended earlier was meant
    to, and a rate that is multiplied by 1 is constant.
    """
    for prefix, node in (("", config), ("critic.", config["critic"])):
        scheduler = (node.get("step") or {}).get("scheduler") or {}
        ends = [end for name in _HORIZONS if isinstance(end := scheduler.get(name), int)]
        end = next((end for end in ends if config["updates"] <= end < updates), None)
        if end is not None and scheduler.get("factor") != 1:
            most = f" (total_steps={end * config['batch_size']} at most)" if end > config["updates"] else ""
            raise UserError(
                f"total_steps cannot be raised: {prefix}scheduler={_scheduler_choice(scheduler)} ends at "
                f"update {end}, with the run as it was planned{most}; start a new run with the total_steps you want"
            )


def _scheduler_choice(scheduler: Mapping[str, Any]) -> str:
    """The choice that has this scheduler's class, as a user types it; the class where no choice has it."""
    from rlopt.config.choices import parts
    from rlopt.config.saved import read_choice

    target = str(scheduler.get("_target_"))
    named = (name for name in parts("scheduler") if read_choice("scheduler", name).get("_target_") == target)
    return next(named, target)


def _as_integer(value: Any) -> Any:
    """1e5 as 100000; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_json(value: Any) -> Any:
    """The value as it comes back from JSON, in which a tuple is a list."""
    return json.loads(json.dumps(value))


def _check_filled(found: Any, where: str) -> None:
    """Raise ValueError if text is in a state that a part makes at its first step; its shapes are not known here."""
    if isinstance(found, dict):
        for name, inner in found.items():
            _check_filled(inner, f"{where}/{name}")
    elif isinstance(found, (list, tuple)):
        for i, inner in enumerate(found):
            _check_filled(inner, f"{where}/{i}")
    else:
        _require(not isinstance(found, str), where, "tensors and numbers", found)


def _require(holds: bool, where: str, wanted: str, found: Any) -> None:
    if not holds:
        came = _describe(found) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"its {where} is {came}, where this run needs {wanted}")


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
