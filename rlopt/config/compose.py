"""From the command line's overrides to one resolved configuration. Knows Hydra.

Values given by presets and recipes for parts that were not chosen fall away; the same value typed by the user is an
error, because it would have no effect.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rlopt.config.choices import PARTS, UPDATE_GROUPS, choices, conf_dir, extra_dirs, file, stands_for
from rlopt.config.overrides import CHOSEN, NESTED, check_single, named, parse, rewritten
from rlopt.config.precedence import composed
from rlopt.config.schema import parameters, part_class
from rlopt.errors import UserError, first_line

# option -> another, and its values with which the first has no effect
_IDLE = {
    "observations.clip": ("observations.normalise", (False,)),
    "rewards.clip": ("rewards.scale", (False,)),
    "averaging.decay": ("averaging.kind", ("none", "uniform")),
    "metric.seed": ("metric.samples", (None, "taken")),
    "solver.decay": ("solver.start", ("cold",)),
    "solver.draws": ("solver.method", ("exact", "lehman_sum", "lehman_abs")),
    "solver.seed": ("solver.method", ("exact", "lehman_sum", "lehman_abs")),
}


def _divide_up(a: Any, b: Any) -> int | None:
    """a / b rounded up; None where they are no numbers, which their own checks will say better."""
    numbers = _is_number(a) and _is_number(b) and b >= 1 and abs(a) < 1e18
    return -(-int(a) // int(b)) if numbers else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


class _ExtraDirs(SearchPathPlugin):
    """Hydra looks for choices in the folders of rlopt.config.extensions too, after rlopt's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in extra_dirs():
            search_path.append("extensions", f"file://{folder}")


OmegaConf.register_new_resolver("divide_up", _divide_up, replace=True)
Plugins.instance().register(_ExtraDirs)


def resolve(overrides: list[str]) -> dict[str, Any]:
    """The whole configuration, resolved to plain values. Raises UserError with one clear line."""
    in_hydras = rewritten(overrides)
    check_single(overrides)
    given = typed(overrides)
    if "updates" in given:
        raise UserError("updates follows from total_steps and batch_size and cannot be chosen; set total_steps")
    Plugins.instance().register(_ExtraDirs)  # again: a launcher's process has Hydra's state from another one
    with explained():
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = composed(overrides, in_hydras)
        _drop_unread(config, given)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    result = {str(k): v for k, v in plain.items()}
    _check_environment(result, overrides)
    _check_effects(result, given)
    for node in (result, result["critic"]):  # they stand inside the step that uses them
        node.pop("optimizer", None)
        node.pop("scheduler", None)
    return result


def typed(overrides: list[str]) -> set[str]:
    """The options and groups that were given a value."""
    return {parse(text).key_or_group for text in overrides}


@contextmanager
def explained() -> Iterator[None]:
    """Hydra's and OmegaConf's errors become UserErrors."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error)) from error
    except YAMLError as error:
        raise UserError(f"a file of choices cannot be read: {' '.join(str(error).split())}") from error


def load(path: Path) -> dict[str, Any]:
    """The resolved configuration that a run saved.

    Loads no code because of it: env.id=MODULE:NAME is refused where MODULE has not been imported already.
    """
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(plain, dict) or not plain:
        raise UserError(f"{path} is not a run's configuration")
    env = plain.get("env")
    name = str(env.get("id")) if isinstance(env, dict) else ""
    module, colon, _ = name.partition(":")
    if colon and module not in sys.modules:
        raise UserError(
            f"{path} names the environment {name}, and no module is imported because a file names it; "
            f"add --import {module}"
        )
    return {str(k): v for k, v in plain.items()}


def to_yaml(config: dict[str, Any]) -> str:
    """A resolved configuration as text."""
    return OmegaConf.to_yaml(OmegaConf.create(config))


def _drop_unread(config: DictConfig, given: set[str]) -> None:
    """Remove values that the chosen parts do not take; those the user typed are an error."""
    nodes = [("", config), ("critic.", config.critic)]
    if "shared" in config.critic:
        _drop_own_parts(config.critic, given)
        nodes.pop()
    _drop_compatible(config.critic, given)
    for prefix, node in nodes:
        for group in PARTS:
            part = node[group]
            cls = part_class({"_target_": part.get("_target_")}, f"{prefix}{group}")
            for key in [k for k in part if k != "_target_" and k not in parameters(cls)]:
                if f"{prefix}{group}.{key}" in given:
                    takes = ", ".join(parameters(cls)) or "no options"
                    raise UserError(
                        f"{prefix}{group}.{key} has no effect: {prefix}{group}={stands_for(cls)} takes {takes}"
                    )
                del part[key]
            if group == "solver" and not getattr(cls, "reads_damping", True):
                idle = sorted(key for key in given if key.startswith(f"{prefix}damping."))
                if idle:
                    raise UserError(f"{idle[0]} has no effect: {prefix}solver={stands_for(cls)} takes no damping")
        for group in ("optimizer", "scheduler"):
            name = f"{prefix}{group}"
            idle = sorted(key for key in given if key == name or key.startswith(f"{name}."))
            if idle and group not in node.step:
                raise UserError(f"{idle[0]} has no effect without {prefix}step=optimizer")


def _drop_compatible(critic: DictConfig, given: set[str]) -> None:
    """The same for the compatible critic, where there is one."""
    part = critic.get("compatible")
    if not isinstance(part, DictConfig):  # none, or what will be refused when it is made
        return
    target = part.get("_target_")
    takes = parameters(part_class({"_target_": target}, "critic.compatible")) if target else []
    for key in [str(k) for k in part if k != "_target_" and k not in takes]:
        if f"critic.compatible.{key}" in given:
            why = f": it takes {', '.join(takes)}" if takes else " without critic=lstd or critic=episodic"
            raise UserError(f"critic.compatible.{key} has no effect{why}")
        del part[key]
    if not target:
        critic.compatible = None


def _check_environment(config: dict[str, Any], overrides: list[str]) -> None:
    """An env=NAME with another's env.id would keep the name, and so the recipes, of what it is not."""
    chosen = {o.key_or_group: o for o in map(parse, overrides)}
    if not {"env", "env.id"} <= set(chosen):
        return
    (name,), wanted = named(chosen["env"]), config["env"]["id"]
    usual = load(file("env", name)).get("env", {}).get("id", wanted)
    if usual not in ("???", wanted):
        raise UserError(f"env.id={wanted} is not env={name}, whose name and recipe it would keep; leave out env={name}")


def _check_effects(config: dict[str, Any], given: set[str]) -> None:
    """Raise UserError where an option was typed that has no effect beside another's value."""
    for where, node in (("", config), ("critic.", config["critic"])):
        for option, (other, values) in _IDLE.items():
            group, name = other.split(".")
            options = node.get(group)
            if f"{where}{option}" in given and isinstance(options, dict) and options.get(name, ...) in values:
                value = json.dumps(options[name]).strip('"')
                raise UserError(f"{where}{option} has no effect with {where}{other}={value}")
        schedule, batch = node.get("schedule"), config["batch_size"]
        size = schedule.get("minibatch") if isinstance(schedule, dict) else None
        if f"{where}schedule.minibatch" in given and _is_number(size) and _is_number(batch) and size > batch:
            raise UserError(
                f"{where}schedule.minibatch={size} is more than batch_size={batch}; for one step on the whole batch "
                f"type {where}schedule.minibatch=null"
            )


def _drop_own_parts(critic: DictConfig, given: set[str]) -> None:
    """Of a critic that is part of the policy's network, remove what only one with a network of its own has."""
    takes = load(conf_dir() / "critic" / "shared.yaml")
    for key in [str(k) for k in critic if k not in takes]:
        name = f"critic.{key}"
        if first := min((g for g in given if g == name or g.startswith(f"{name}.")), default=None):
            raise UserError(
                f"{first} has no effect with critic=shared: the critic is part of the policy's network and learns by "
                f"the policy's update; type {first.removeprefix('critic.')}, or choose critic=mlp"
            )
        del critic[key]


def _explain(error: Exception) -> str:
    """Hydra's and OmegaConf's messages in one line that says what to type instead."""
    first = first_line(error)
    if "Could not override" in first:
        key = first.split("'")[1]
        if owners := _owners(key):
            return f"{key} has no effect here; it is an option of {' and '.join(owners)}"
        nested, dot, _ = key.partition(".preconditioner.")
        if dot and f"{nested}.preconditioner" in NESTED:
            return f"{key} has no effect without {nested}.preconditioner=..., such as diagonal"
        known = _known_keys()
        inner = sorted((k for k in known if k.endswith(f".{key}")), key=len)[:3]
        near = inner or difflib.get_close_matches(key, known, n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `rlopt train --help` lists the options"
        return f"there is no option {key}{hint}"
    full_key = getattr(error, "full_key", None)
    if "Missing mandatory value" in first or "mandatory" in first.lower():
        name = "env.id" if full_key in (None, "env.name") else full_key  # env.name follows env.id
        return f"{name} must be given: {name}=..."
    return f"{full_key}: {first}" if full_key else first


def _owners(key: str) -> list[str]:
    """The choices, spelled group=choice, that have the option ``key``."""
    critics = key.removeprefix("critic.")
    where = "critic." if critics != key and critics.partition(".")[0] in PARTS else ""
    group, *path = key.removeprefix(where).split(".")
    if group not in (*PARTS, "policy", "critic") or not path:
        return []
    files = {choice: load(file(group, choice)) for choice in choices(group)}
    return [f"{where}{group}={choice}" for choice, node in files.items() if _has(node, path)]


def _has(node: Any, path: list[str]) -> bool:
    """Whether there is an option at the end of this path; it may be null."""
    return not path or (isinstance(node, dict) and path[0] in node and _has(node[path[0]], path[1:]))


def _known_keys() -> list[str]:
    """Every option's dotted name in the default configuration."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config")
    keys: dict[str, None] = dict.fromkeys([*CHOSEN, *(f"critic.{group}" for group in UPDATE_GROUPS)])

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            key = str(name)
            if key != "_target_":
                keys[f"{prefix}{key}"] = None
            if isinstance(node, DictConfig) and isinstance(node._get_node(key), DictConfig):
                walk(node[key], f"{prefix}{key}.")

    walk(config, "")
    return list(keys)
