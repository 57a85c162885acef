"""From the command line's overrides to one resolved configuration. With cli.py, the only file that knows Hydra.

Values given by presets and recipes for parts that were not chosen fall away; the same value typed by the user is an
error, because it would have no effect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlopt.catalogue import UPDATE_GROUPS, choices, conf_dir, nearest
from rlopt.construct import parameters, part_class
from rlopt.errors import UserError

_OPTIONAL = ("recipe", "experiment")  # null = none
_CHOSEN = (*UPDATE_GROUPS, "algo", "env", "policy", "critic", *_OPTIONAL)
_PARTS = ("objective", "metric", "solver", "damping", "step")
_OPEN = ("optimizer.", "scheduler.", "critic.optimizer.", "critic.scheduler.", "env.kwargs.")  # take further keys


def _divide_up(a: Any, b: Any) -> int | None:
    """a / b rounded up; None where they are no numbers, which their own checks will say better."""
    numbers = isinstance(a, (int, float)) and isinstance(b, (int, float)) and b >= 1 and abs(a) < 1e18
    return -(-int(a) // int(b)) if numbers else None


OmegaConf.register_new_resolver("divide_up", _divide_up, replace=True)


def rewritten(overrides: list[str]) -> list[str]:
    """Overrides in Hydra's own spelling, each choice checked.

    ``critic.metric=fisher`` becomes ``metric@critic.metric=fisher``; ``env.id=...`` without ``env=...`` chooses
    ``env=any``; options of open nodes (``optimizer.weight_decay=...``) may be new ones.
    """
    parsed = [_parse(text) for text in overrides]
    keys = [override.key_or_group for override in parsed]
    out = [_rewrite(override) for override in parsed]
    if "env.id" in keys and "env" not in keys:
        out.insert(0, "env=any")
    return out


def resolve(overrides: list[str]) -> dict[str, Any]:
    """The whole configuration, resolved to plain values. Raises UserError with one clear line."""
    spelled = rewritten(overrides)
    for override in map(_parse, overrides):
        text = override.input_line
        if override.is_sweep_override():
            raise UserError(f"{text}: several values are for several runs, `rlopt train -m {text}`")
        if _of_hydra(override):
            raise UserError(f"{text}: Hydra's own options are for several runs, `rlopt train -m`")
    with explained():
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose("config", overrides=spelled)
        _drop_unread(config, given={_parse(text).key_or_group for text in overrides})
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    result = {str(k): v for k, v in plain.items()}
    for node in (result, result["critic"]):  # they stand inside the step that uses them
        node.pop("optimizer", None)
        node.pop("scheduler", None)
    return result


@contextmanager
def explained() -> Iterator[None]:
    """Hydra's and OmegaConf's errors become UserErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from error


def first_run(overrides: list[str]) -> list[str]:
    """The overrides of the first of several runs."""
    return [
        f"{o.get_key_element()}={next(o.sweep_string_iterator())}" if o.is_discrete_sweep() else str(o.input_line)
        for o in map(_parse, overrides)
        if not _of_hydra(o)
    ]


def load(path: Path) -> dict[str, Any]:
    """The resolved configuration that a run saved."""
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(plain, dict) or not plain:
        raise UserError(f"{path} is not a run's configuration")
    return {str(k): v for k, v in plain.items()}


def to_yaml(config: dict[str, Any]) -> str:
    """A resolved configuration as text."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def _parse(text: str) -> Override:
    unreadable = UserError(f"cannot read {text!r}; an override is written name=value, such as seed=1")
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise unreadable from error
    if not override.key_or_group:
        raise unreadable
    if isinstance(override.value(), Glob):
        raise UserError(f"{text}: patterns are not served; write the values themselves, such as seed=0,1")
    return override


def _rewrite(override: Override) -> str:
    """One override in Hydra's spelling."""
    text, key = str(override.input_line).lstrip("+"), override.key_or_group
    group = key.removeprefix("critic.")
    if override.is_delete():
        raise UserError(f"{text}: options cannot be removed; give another value instead")
    if key.endswith("._target_"):
        raise UserError(f"{text}: a _target_ is what a choice stands for; type {key.removesuffix('._target_')}=...")
    if group in _CHOSEN and (key == group or group in UPDATE_GROUPS):
        if key in _OPTIONAL and override.value() is None:
            return f"~{key}"
        for choice in _choices(override):
            if choice not in choices(group):
                known = choices(group)
                raise UserError(
                    f"{key}={choice}: no such {group}{nearest(choice, known)}; "
                    f"{group} is one of {', '.join(known) or '(none yet)'}"
                )
        if key != group:
            return f"{group}@{key}={text.split('=', 1)[1]}"
    elif key.startswith(_OPEN):
        return f"++{text}"
    return text


def _of_hydra(override: Override) -> bool:
    return override.key_or_group.replace("/", ".").split(".")[0] == "hydra"


def _choices(override: Override) -> list[str]:
    """The choice or choices (in a sweep) that an override names."""
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    return ["null" if v is None else v.text if isinstance(v, QuotedString) else str(v) for v in values]


def _drop_unread(config: DictConfig, given: set[str]) -> None:
    """Remove values that the chosen parts do not take; those the user typed are an error."""
    OmegaConf.set_struct(config, False)
    for prefix, node in (("", config), ("critic.", config.critic)):
        for group in _PARTS:
            part = node[group]
            cls = part_class({"_target_": part.get("_target_")}, f"{prefix}{group}")
            for key in [k for k in part if k != "_target_" and k not in parameters(cls)]:
                if f"{prefix}{group}.{key}" in given:
                    takes = ", ".join(parameters(cls)) or "no options"
                    raise UserError(
                        f"{prefix}{group}.{key} has no effect: {prefix}{group}={cls.__module__.rpartition('.')[2]} "
                        f"takes {takes}"
                    )
                del part[key]
        for group in ("optimizer", "scheduler"):
            name = f"{prefix}{group}"
            typed = sorted(key for key in given if key == name or key.startswith(f"{name}."))
            if typed and group not in node.step:
                raise UserError(f"{typed[0]} has no effect without {prefix}step=optimizer")


def _explain(error: Exception) -> str:
    """Hydra's and OmegaConf's messages in one line that says what to type instead."""
    first = str(error).strip().splitlines()[0]
    if "Could not override" in first:
        key = first.split("'")[1]
        if owners := _owners(key):
            return f"{key} has no effect here; it is an option of {' and '.join(owners)}"
        known = _known_keys()
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `rlopt train --help` lists the options"
        return f"there is no option {key}{hint}"
    full_key = getattr(error, "full_key", None)
    if "Missing mandatory value" in first or "mandatory" in first.lower():
        name = "env.id" if full_key in (None, "env.name") else full_key  # env.name follows env.id
        return f"{name} must be given: {name}=..."
    return f"{full_key}: {first}" if full_key else first


def _owners(key: str) -> list[str]:
    """The choices, spelled group=choice, that have the option ``key``."""
    place, _, option = key.rpartition(".")
    group = place.removeprefix("critic.")
    if group not in _PARTS:
        return []
    files = {choice: load(conf_dir() / group / f"{choice}.yaml") for choice in choices(group)}
    return [f"{place}={choice}" for choice, values in files.items() if option in values]


def _known_keys() -> list[str]:
    """Every option's dotted name in the default configuration."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config")
    keys: dict[str, None] = dict.fromkeys([*_CHOSEN, *(f"critic.{group}" for group in UPDATE_GROUPS)])

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            key = str(name)
            if key != "_target_":
                keys[f"{prefix}{key}"] = None
            if isinstance(node, DictConfig) and isinstance(node._get_node(key), DictConfig):
                walk(node[key], f"{prefix}{key}.")

    walk(config, "")
    return list(keys)
