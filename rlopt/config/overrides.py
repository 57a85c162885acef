"""Overrides as the user spells them, and as Hydra does; every choice is checked, and what Hydra would take silently.

critic.metric=fisher            metric@critic.metric=fisher        (plain, it would put a string there)
solver.preconditioner=kfac      +solver@solver.preconditioner=kfac
env.id=Acrobot-v1               env=any env.id=Acrobot-v1
optimizer.weight_decay=0.1      ++optimizer.weight_decay=0.1       (torch's own options may be new ones)
recipe=null                     ~recipe
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, Quote, QuotedString
from hydra.errors import HydraException

from rlopt.config.choices import UPDATE_GROUPS, choices, nearest
from rlopt.errors import UserError

OPTIONAL = ("recipe", "experiment")  # null = none
CHOSEN = (*UPDATE_GROUPS, "algo", "env", "policy", "critic", *OPTIONAL)
NESTED = {"solver.preconditioner": "solver", "critic.solver.preconditioner": "solver"}  # option -> its group
_OPEN = ("optimizer.", "scheduler.", "critic.optimizer.", "critic.scheduler.", "env.kwargs.")  # take further keys
_ID = re.compile(r"-v\d+$|[/:]")  # what ids of Gymnasium's have, and names of choices have not
_BARE = re.compile(r"(?!(true|false|null|nan|inf)$)[A-Za-z_][\w./:-]*", re.IGNORECASE)  # text that needs no quotes


def spelled(options: Mapping[str, Any], place: str = "") -> list[str]:
    """Options of Python as overrides: {"seed": 1, "step": {"radius": 0.1}} -> seed=1, step.radius=0.1."""
    found: list[str] = []
    for name, value in options.items():
        within = isinstance(value, Mapping) and value
        found += spelled(value, f"{place}{name}.") if within else [f"{place}{name}={_text(value)}"]
    return found


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        text = str(value)
        return text if _BARE.fullmatch(text) else QuotedString(text, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_text, value))}]"
    return repr(value.item() if hasattr(value, "item") else value)


def parse(text: str) -> Override:
    """One override. Raises UserError where it cannot be read, or is of a kind that is not served."""
    name, _, rest = text.partition("=")
    quoted = f"; a path like this takes quotes: \"{name}='{rest}'\"" if name in ("run_dir", "sweep_dir") else ""
    unreadable = UserError(f"cannot read {text!r}; an override is written name=value, such as seed=1{quoted}")
    try:
        override = OverridesParser.create().parse_override(text)
        value = override.value()
    except (HydraException, ValueError) as error:
        raise unreadable from error
    if not override.key_or_group:
        raise unreadable
    if isinstance(value, Glob):
        raise UserError(f"{text}: patterns are not served; write the values themselves, such as seed=0,1")
    return override


def rewritten(overrides: list[str]) -> list[str]:
    """Overrides in Hydra's own spelling. Raises UserError where a choice does not exist."""
    parsed = [parse(text) for text in overrides]
    keys = [override.key_or_group for override in parsed]
    out = [_rewrite(override) for override in parsed]
    if "env.id" in keys and "env" not in keys:
        out.insert(0, "env=any")
    return out


def check_single(overrides: list[str]) -> None:
    """Raise UserError for what is meant for several runs."""
    for override in map(parse, overrides):
        text = override.input_line
        if isinstance(override.value(), IntervalSweep):
            raise UserError(f"{text}: a range to draw from is for a sweeper of its own; write the value itself")
        if override.is_sweep_override():
            raise UserError(f"{text}: several values are for several runs, `rlopt train -m {text}`")
        if override.key_or_group == "sweep_dir":
            raise UserError(f"{text}: a folder of several runs, `rlopt train -m`; for one it is run_dir=...")
        if _of_hydra(override):
            raise UserError(f"{text}: Hydra's own options are for several runs, `rlopt train -m`")


def check_several(overrides: list[str]) -> None:
    """Raise UserError for what several runs cannot take."""
    parsed = [parse(text) for text in overrides]
    sweeper = any(o.key_or_group == "hydra/sweeper" for o in parsed)
    for override in parsed:
        if override.key_or_group == "hydra":
            raise UserError(f"{override.input_line}: hydra is a group of options, such as hydra/launcher=joblib")
        if isinstance(override.value(), IntervalSweep) and not sweeper:
            raise UserError(
                f"{override.input_line}: only a sweeper that draws (hydra/sweeper=...) takes a range; "
                f"write the values, such as {override.key_or_group}=0.1,0.2"
            )


def first_run(overrides: list[str]) -> list[str]:
    """The overrides of the first of several runs."""
    out = []
    for override in map(parse, overrides):
        value, name = override.value(), override.get_key_element()
        if isinstance(value, IntervalSweep):
            out.append(f"{name}={value.start}")
        elif override.is_discrete_sweep():
            out.append(f"{name}={next(override.sweep_string_iterator())}")
        elif not _of_hydra(override):
            out.append(str(override.input_line))
    return out


def named(override: Override) -> list[str]:
    """The choice or choices (in a sweep) that an override names."""
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    return ["null" if v is None else v.text if isinstance(v, QuotedString) else str(v) for v in values]


def _rewrite(override: Override) -> str:
    """One override in Hydra's spelling."""
    text, key = str(override.input_line).lstrip("+"), override.key_or_group
    group = key.removeprefix("critic.")
    if key == "extensions":
        raise UserError(f"{text}: folders of your own are named by --extensions DIR")
    if override.is_delete():
        raise UserError(f"{text}: options cannot be removed; give another value instead")
    if key.endswith("._target_"):
        raise UserError(f"{text}: a _target_ is what a choice stands for; type {key.removesuffix('._target_')}=...")
    if group in CHOSEN and (key == group or group in UPDATE_GROUPS):
        if key in OPTIONAL and override.value() is None:
            return f"~{key}"
        _check_choices(key, group, named(override))
        if key != group:
            return f"{group}@{key}={text.split('=', 1)[1]}"
    elif key in NESTED and not text.split("=", 1)[1].startswith("{"):
        values = ["null" if name == "none" else name for name in named(override)]
        _check_choices(key, NESTED[key], [name for name in values if name != "null"])
        if values == ["null"]:
            return f"{key}=null"
        if "null" in values:  # of several runs, each of which spells its own
            return f"++{key}={','.join(values)}"
        return f"+{NESTED[key]}@{key}={','.join(values)}"
    elif key.startswith(_OPEN):
        return f"++{text}"
    return text


def _check_choices(key: str, group: str, names: list[str]) -> None:
    known = choices(group)
    for name in names:
        if name not in known:
            by_id = f"; any registered environment: env.id={name}" if group == "env" and _ID.search(name) else ""
            raise UserError(
                f"{key}={name}: no such {group}{nearest(name, known)}; "
                f"{group} is one of {', '.join(known) or '(none yet)'}{by_id}"
            )


def _of_hydra(override: Override) -> bool:
    return override.key_or_group.replace("/", ".").split(".")[0] == "hydra"
