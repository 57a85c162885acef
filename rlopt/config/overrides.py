"""Overrides: what a user types, name=value, read and checked. Knows Hydra's grammar and nothing of its composition.

A *choice* names a file of conf/ (metric=fisher), an *option* a value in one (solver.iterations=20). Every name has one
full form, by which options are told apart; these are the short ones that a user may type:

| typed                   | full name                  |
|---|---|
| optimizer=sgd           | step.optimizer=sgd         |
| critic.optimizer.lr=0.1 | critic.step.optimizer.lr   |
| metric@critic.metric=.. | critic.metric (Hydra's own spelling) |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlopt.config.choices import PARTS, choices, environment_with_id, nearest, short_name
from rlopt.errors import UserError
from rlopt.files.reading import check_depth

_parser = cache(OverridesParser.create)
_DEEPEST = 20  # lists and mappings within one another
_WITHIN_STEP = ("optimizer", "scheduler")  # groups whose choices stand inside a step
_GROUP_OF = {  # a choice within another's options -> the group whose files it takes
    "solver.preconditioner": "solver",
    "solver.of": "solver",
    "solver.of.preconditioner": "solver",
    "metric.of": "metric",
    "step.optimizer": "optimizer",
    "step.scheduler": "scheduler",
}
_FOR_BOTH = (*PARTS, "schedule", *_GROUP_OF)  # actor and critic
CHOICES = {  # full name -> the group whose choices it takes
    **{name: name for name in ("algo", "env", "policy", "critic", "estimator", "exploration", "experiment", "recipe")},
    **{f"{network}{name}": _GROUP_OF.get(name, name) for network in ("", "critic.") for name in _FOR_BOTH},
}
MOST_CHECKED = 300  # combinations that are all checked before any begins; of more, each value is
NULLABLE = (
    "experiment",
    "recipe",
    "exploration",
    *(name for name in CHOICES if name.endswith(".preconditioner")),
)  # may be none
_ID = re.compile(r"-v\d+$|[/:]")  # ids of Gymnasium have one of these; names of choices do not
_BARE = re.compile(r"(?!(true|false|null|nan|inf)$)[A-Za-z_][\w./:-]*", re.IGNORECASE)  # text that needs no quotes


def take_env_kwargs(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(env.kwargs, the other options) of options of Python. Values of env.kwargs reach the environment as they are.

    Raises UserError, with the name, for what a configuration and a checkpoint cannot hold.
    """
    rest = dict(options)
    found: dict[str, Any] = {}
    given = rest.get("env")
    if isinstance(given, Mapping):
        rest.pop("env")
        rest |= {f"env.{name}": value for name, value in given.items()}
    for name in [name for name in rest if name == "env.kwargs" or name.startswith("env.kwargs.")]:
        value = rest.pop(name)
        for key in reversed(name.split(".")[2:]):
            value = {key: value}
        if not isinstance(value, Mapping):
            raise UserError(f"env.kwargs is a group of options, env.kwargs.NAME=...; got {value!r}")
        found |= _plain(value, "env.kwargs")
    return found, rest


def _plain(value: Any, name: str, depth: int = 0) -> Any:
    """A copy of the value: numbers, text, None, and lists and dictionaries of them; numpy's numbers as Python's."""
    if depth > _DEEPEST:
        raise UserError(f"{name[:40]}...: lists and dictionaries may be nested {_DEEPEST} deep, and no deeper")
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list):
        return [_plain(inner, f"{name}[{i}]", depth + 1) for i, inner in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise UserError(f"{name} has the key {key!r}; keys must be text or whole numbers")
        return {key: _plain(inner, f"{name}.{key}", depth + 1) for key, inner in value.items()}
    if type(value) in (str, int, float, bool, type(None)):
        if _is_too_large(value):
            shown = "a whole number beyond 2^63"
        elif value == value and not _is_template(value):
            return value
        else:
            shown = f"the text {value!r}" if isinstance(value, str) else "nan"
    else:
        shown = type(value).__name__
    raise UserError(
        f"{name} is {shown}, which a configuration cannot hold; give numbers, text, None, or lists and dicts of them"
    )


def _is_too_large(value: Any) -> bool:
    """Whether a whole number in it has more than 63 bits."""
    if isinstance(value, dict | list):
        return any(map(_is_too_large, value.values() if isinstance(value, dict) else value))
    return type(value) is int and abs(value) >= 2**63


def _is_template(value: Any) -> bool:
    """Whether OmegaConf cannot hold this text: it reads a ${ without its end as a reference to another option."""
    try:
        OmegaConf.create({"key": value})
    except OmegaConfBaseException:
        return True
    return False


def to_overrides(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Options of Python as overrides: {"seed": 1, "step": {"radius": 0.1}} -> seed=1, step.radius=0.1."""
    found: list[str] = []
    for name, value in options.items():
        nested = isinstance(value, Mapping) and value
        found += to_overrides(value, f"{prefix}{name}.") if nested else [f"{prefix}{name}={_to_text(value)}"]
    return found


def _to_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | Path):
        text = str(value)
        return text if _BARE.fullmatch(text) else QuotedString(text, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) and _BARE.fullmatch(key) for key in value):
            raise UserError(f"the keys of an option within a list must be names; got {list(value)}")
        return f"{{{','.join(f'{key}:{_to_text(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{','.join(map(_to_text, value))}]"
    try:
        return repr(value.item() if hasattr(value, "item") else value)
    except (ValueError, RuntimeError) as error:  # an array of several numbers
        raise UserError(f"an option must be a number, text, or a list or dict of them; got {value!r}") from error


def parse(text: str) -> Override:
    """One override. Raises UserError where it cannot be read, or is of a kind that is not served."""
    name, _, rest = text.partition("=")
    quoted = f"; a path like this takes quotes: \"{name}='{rest}'\"" if name in ("run_dir", "sweep_dir") else ""
    unreadable = UserError(f"cannot read {text!r}; an override is written name=value, such as seed=1{quoted}")
    try:
        check_depth(text, _DEEPEST)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error
    try:
        override = _parser().parse_override(text)
        value = override.value()
    except (HydraException, ValueError) as error:
        raise unreadable from error
    if not override.key_or_group:
        raise unreadable
    if name.startswith("env.kwargs") and _is_too_large(value):  # other options have limits of their own
        raise UserError(f"{name}: a whole number is beyond 2^63, which a saved configuration cannot hold")
    if isinstance(value, Glob):
        raise UserError(f"{text}: patterns are not served; write the values themselves, such as seed=0,1")
    return override


def full_name(override: Override) -> str:
    """The full name of the choice or option; see the module's table."""
    name: str = override.package or override.key_or_group
    network = "critic." if name.startswith("critic.") else ""
    rest = name.removeprefix(network)
    return f"{network}step.{rest}" if rest.split(".")[0] in _WITHIN_STEP else name


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Full names and values of what was typed for one run; a choice's value is its file's name, or None.

    Raises UserError where an override cannot be read, is meant for several runs, or names a choice that does not exist.
    """
    found: dict[str, Any] = {}
    for override in map(parse, overrides):
        check_single(override)
        name = full_name(override)
        check_name(override, name)
        found[name] = _choice(override, name) if is_choice(override, name) else override.value()
    if "env.id" in found and found["env.id"] is None:
        raise UserError("env.id=null: name an environment, such as env.id=CartPole-v1")
    if "env.id" in found and "env" not in found:
        found = {"env": environment_with_id(str(found["env.id"])) or "any", **found}
    return found


def check_once(overrides: Sequence[str]) -> None:
    """Raise UserError where one option is given twice."""
    given: dict[str, str] = {}
    for override in map(parse, overrides):
        name, text = full_name(override), str(override.input_line)
        if name in given:
            raise UserError(f"{short_name(name)} is given twice: {given[name]} and {text}; leave one out")
        given[name] = text


def is_choice(override: Override, name: str) -> bool:
    """Whether it names a file of conf/; a preconditioner may also be given as a mapping of its own."""
    return name in CHOICES and not (name in NULLABLE and isinstance(override.value(), dict))


def check_name(override: Override, name: str) -> None:
    """Raise UserError for what looks like an override and is none."""
    text = override.input_line
    if name == "extensions":
        raise UserError(f"{text}: folders of your own are named by --extensions DIR")
    if override.is_delete():
        raise UserError(f"{text}: options cannot be removed; give another value instead")
    if name.endswith(("._target_", "step.optimizer.name", "step.scheduler.name")):
        typed = short_name(name.rpartition(".")[0])
        raise UserError(f"{text}: a class is chosen by the name of its file; type {typed}=...")


def check_choices(override: Override, name: str) -> None:
    """Raise UserError where a choice, or one of several in a sweep, does not exist."""
    group = CHOICES[name]
    known = choices(group)
    for value in named_values(override):
        if value in known or (name in NULLABLE and value in ("null", "none")) or (name == "recipe" and value == "auto"):
            continue
        by_id = f"; any registered environment: env.id={value}" if group == "env" and _ID.search(value) else ""
        raise UserError(
            f"{short_name(name)}={value}: no such {group}{nearest(value, known)}; "
            f"{group} is one of {', '.join(known) or '(none yet)'}{by_id}"
        )


def _choice(override: Override, name: str) -> str | None:
    check_choices(override, name)
    (value,) = named_values(override)
    return None if name in NULLABLE and value in ("null", "none") else value


def named_values(override: Override) -> list[str]:
    """The value, or the values of a sweep, as text."""
    value = override.value()
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    return ["null" if v is None else v.text if isinstance(v, QuotedString) else str(v) for v in values]


def check_single(override: Override) -> None:
    """Raise UserError for what is meant for several runs."""
    text = override.input_line
    if isinstance(override.value(), IntervalSweep):
        raise UserError(f"{text}: a range to draw from is for a sweeper of its own; write the value itself")
    if override.is_sweep_override():
        raise UserError(f"{text}: several values are for several runs, `rlopt train -m {text}`")
    if override.key_or_group == "sweep_dir":
        raise UserError(f"{text}: a folder of several runs, `rlopt train -m`; for one it is run_dir=...")
    if is_hydras(override):
        raise UserError(f"{text}: Hydra's own options are for several runs, `rlopt train -m`")


def check_several(overrides: Sequence[str]) -> None:
    """Raise UserError for what several runs cannot take, and for choices that do not exist."""
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
        if override.is_discrete_sweep() and not any(True for _ in override.sweep_string_iterator()):
            raise UserError(f"{override.input_line} holds no value; write some, such as seed=0,1 or seed=range(3)")
        name = full_name(override)
        if not is_hydras(override):
            check_name(override, name)
            if is_choice(override, name) and not isinstance(override.value(), IntervalSweep):
                check_choices(override, name)


def runs_to_check(overrides: Sequence[str]) -> tuple[list[list[str]], list[list[str]]]:
    """The overrides of one run for each combination of choices, and of further runs that differ in values alone.

    The further ones are all that there are or, beyond MOST_CHECKED, one for each value, and as many at most. A sweeper
    that draws has combinations of its own: for it the first run is all.
    """
    alternatives, draws, of_choices = [], False, set[int]()
    for override in map(parse, overrides):
        value, name = override.value(), override.get_key_element()
        if is_hydras(override):
            draws |= override.key_or_group == "hydra/sweeper"
        elif isinstance(value, IntervalSweep):
            alternatives.append([f"{name}={value.start}"])
        elif override.is_discrete_sweep():
            if full_name(override) in (*CHOICES, "env.id"):
                of_choices.add(len(alternatives))
            alternatives.append([f"{name}={value}" for value in override.sweep_string_iterator()])
        else:
            alternatives.append([str(override.input_line)])
    first = [values if i in of_choices else values[:1] for i, values in enumerate(alternatives)]
    by_choice = list(map(list, product(*first)))
    if draws:
        return by_choice[:1], []
    if prod(map(len, alternatives)) <= MOST_CHECKED:
        return by_choice, [run for run in map(list, product(*alternatives)) if run not in by_choice]
    others = [
        [value if i == j else values[0] for j, values in enumerate(alternatives)]
        for i, each in enumerate(alternatives)
        if i not in of_choices
        for value in each[1:]
    ]
    return by_choice, others[:MOST_CHECKED]


def drawn_numbers(overrides: Sequence[str], first: Sequence[str]) -> list[tuple[str, float, list[str]]]:
    """(what is typed, a number, a run with it) for every range to draw from: its end, and one within that is not whole.

    ``first`` is the run at the ranges' starts.
    """
    found = []
    for override in map(parse, overrides):
        value, name = override.value(), override.get_key_element()
        if isinstance(value, IntervalSweep):
            start, end = value.start, value.end
            assert start is not None and end is not None
            within = [start + 0.6180339887 * (end - start)] if isinstance(start, float) else []
            others = [text for text in first if not text.startswith(f"{name}=")]
            found += [(str(override.input_line), n, [*others, f"{name}={n}"]) for n in (end, *within)]
    return found


def to_sweeper(override: Override) -> str:
    """One override as Hydra's sweepers are given it: a plain entry of an empty configuration, its dots spelled __."""
    if is_hydras(override):
        return str(override.input_line)
    return f"+{full_name(override).replace('.', '__')}={str(override.input_line).split('=', 1)[1]}"


def from_sweeper(text: str) -> str:
    """Undo `to_sweeper`: the override as a user types it, with the value of this run."""
    name, _, value = text.lstrip("+").partition("=")
    return f"{short_name(name.replace('__', '.'))}={value}"


def is_hydras(override: Override) -> bool:
    """Whether it is one of Hydra's own options, hydra.* or hydra/*."""
    return override.key_or_group.replace("/", ".").split(".")[0] == "hydra"
