"""Resuming: what may be changed of a run that goes on, and what must be as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from rlopt.checkpoint.run_state import versions
from rlopt.errors import UserError

# what has no part in the numbers of the updates that were done
FREE = (
    "total_steps", "checkpoint.every_updates", "checkpoint.every_seconds", "checkpoint.keep", "evaluation.episodes",
    "evaluation.every_updates", "env.timeout", "workers", "max_bad_updates",
)  # fmt: skip
_FOLLOWS = ("run_dir", "updates")  # where the run lies now; total_steps / batch_size
_HORIZONS = ("total_iters", "T_max", "total_steps")  # of a learning-rate schedule, in updates


def changed(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with these options, by their dotted names. Raises UserError for what is not to be changed."""
    new = deepcopy(dict(config))
    for name, value in overrides.items():
        if name not in FREE:
            raise UserError(f"{name} cannot be changed in the middle of a run; resume takes {', '.join(FREE)}")
        *groups, last = name.split(".")
        node = new
        for group in groups:
            node = node[group]
        node[last] = _whole(value)
    for name in ("total_steps", "batch_size"):  # of a run that was begun with 1e5
        if name in new:
            new[name] = _whole(new[name])
    total, batch = new.get("total_steps"), new.get("batch_size")
    if "total_steps" in overrides and isinstance(total, int) and isinstance(batch, int) and batch > 0:
        new["updates"] = -(-total // batch)
        if new["updates"] > config["updates"]:
            _check_schedules(config)
    return new


def check_same(config: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise UserError where config.yaml is not what the checkpoint was made with, FREE options aside."""
    for name, here, there in differences(config, saved):
        if name not in (*FREE, *_FOLLOWS):
            raise UserError(
                f"config.yaml has {name}={here}, and the checkpoint was made with {there}; put it back, or train anew"
            )


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where two configurations differ: an option's dotted name, and its values."""
    here, there = _flat(a), _flat(b)
    for name in sorted(here.keys() | there.keys()):
        values = here.get(name, "not there"), there.get(name, "not there")
        if values[0] != values[1]:
            yield name, *values


def other_versions(saved: Mapping[str, str]) -> str | None:
    """What the checkpoint was made on that is another here, in words; None where all is the same."""
    here = versions()
    differing = [
        f"{name} {saved.get(name, 'absent')} (here {here.get(name, 'absent')})"
        for name in sorted(here.keys() | saved.keys())
        if here.get(name) != saved.get(name)
    ]
    return ", ".join(differing) or None


def _check_schedules(config: Mapping[str, Any]) -> None:
    """Raise UserError where a learning rate follows a course that was laid out for the run as it was planned.

    A constant one has none, though its yaml gives the factor 1 an end.
    """
    for where, node in (("", config), ("critic.", config["critic"])):
        scheduler = (node.get("step") or {}).get("scheduler") or {}
        if scheduler.get("name") == "ConstantLR" and scheduler.get("factor") == 1:
            continue
        for name in _HORIZONS:
            if scheduler.get(name) == config["updates"]:
                raise UserError(
                    f"total_steps cannot be raised: {where}scheduler={scheduler.get('name')} has its end at update "
                    f"{config['updates']}, that of the run as it was begun; train anew with the total_steps you want"
                )


def _whole(value: Any) -> Any:
    """1e5 is a whole number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted names -> values as JSON has them."""
    if not isinstance(node, Mapping):
        return {prefix: json.loads(json.dumps(node))}
    found: dict[str, Any] = {}
    for key, value in node.items():
        found |= _flat(value, f"{prefix}.{key}".lstrip("."))
    return found
