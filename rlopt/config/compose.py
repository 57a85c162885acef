"""Composition: overrides -> one plain configuration, by Hydra from the files of conf/. Knows Hydra.

From the weakest to the strongest:

    the files that config.yaml, env and algo choose
    a recipe and an experiment, which are overrides in a file
    what was typed

A solver's file may name its usual damping, which is chosen with it unless the same layer or a stronger one chooses.

An option goes with its choice: where a stronger layer chooses another file for a group, the weaker layers' options of
that group are left out. So what is typed wins, an option by its value, and a choice other than the preset's by all the
values of its file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache, lru_cache
from pathlib import Path
from threading import RLock
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from rlopt.config.choices import (
    ACTOR_PARTS,
    SHARED_CRITIC,
    UPDATE_GROUPS,
    USUAL_DAMPING,
    conf_dir,
    defaults,
    extra_dirs,
    file,
    own_choices,
    parts,
    short_name,
    stands_for,
)
from rlopt.config.overrides import CHOICES, read_overrides
from rlopt.config.saved import load, read_choice
from rlopt.config.synonyms import meant_by
from rlopt.errors import UserError, in_one_line
from rlopt.files import flatten

# groups that take further options: of torch's own classes, environments, parts of observations, and of own memories
_OPEN = ("step.optimizer", "step.scheduler", "critic.step.optimizer", "critic.step.scheduler", "env.kwargs",
         "policy.encoders", "critic.encoders", "policy.memory", "critic.memory")  # fmt: skip
_one_at_a_time = RLock()  # Hydra has one state for all threads
Options = dict[str, Any]  # full name -> value


class _ExtraDirs(SearchPathPlugin):
    """Hydra looks for choices in the folders of --extensions too, after conf/; a sweep's own configuration has none."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if any(entry.path == str(conf_dir()) for entry in search_path.get_path()):
            for folder in extra_dirs():
                search_path.append("extensions", f"file://{folder}")


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The whole configuration in plain values. Raises UserError with one clear line."""
    typed = read_overrides(overrides)
    if "updates" in typed:
        raise UserError("updates follows from total_steps and batch_size and cannot be chosen; set total_steps")
    with _one_at_a_time, _explained():
        Plugins.instance().register(_ExtraDirs)  # again: a launcher's process has Hydra's state from another one
        experiment = _named_overrides("experiment", typed.get("experiment"))
        chosen = {**_defaults(), **experiment, **typed}
        recipe = _recipe(chosen)
        files = _preset_choices(chosen["algo"], chosen["env"])
        layers = _with_usual_dampings([_named_overrides("recipe", recipe), experiment, typed])
        merged = _merged(files, *layers)
        presets = {"algo": chosen["algo"], "env": chosen["env"]}
        others = {name: choice for name, choice in merged.items() if files.get(name) != choice}
        config = _compose_files(presets | others, typed)
        for name in (n for n, group in CHOICES.items() if group == "solver"):
            if isinstance(node := OmegaConf.select(config, name), DictConfig):
                node.pop(USUAL_DAMPING, None)  # read above
        _set_options(config, merged, typed)
        if config.critic._target_ == SHARED_CRITIC:
            _drop_critics_update(config, typed)
        config.recipe, config.experiment = recipe, typed.get("experiment")
        config.updates = _count_updates(config.total_steps, config.batch_size)
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    result = {str(name): value for name, value in plain.items()}
    if typed.get("env.id") is not None:
        _check_environment(typed["env"], result["env"]["id"])
    return result


def _merged(files: Options, *layers: Options) -> Options:
    """The choices of the presets' files, and all layers on top, the later the stronger.

    Another choice takes away what the weaker layers have in the file that it replaces.
    """
    merged = dict(files)
    for layer in layers:
        kept = [n for n, c in layer.items() if n in CHOICES and n in merged and _same_part(n, c, merged[n])]
        new = {name: value for name, value in layer.items() if name not in kept}
        replaced = [name for name in new if name in CHOICES and name not in ("algo", "env")]
        merged = {name: value for name, value in merged.items() if not any(_belongs(name, c) for c in replaced)}
        merged.update(new)
    return merged


def _with_usual_dampings(layers: Sequence[Options]) -> list[Options]:
    """The layers, the weakest first, with the damping that goes with each network's solver where none is chosen."""
    found = [dict(layer) for layer in layers]
    for network in ("", "critic."):
        last = max((i for i, layer in enumerate(layers) if f"{network}solver" in layer), default=len(layers))
        for layer in found[last : last + 1]:
            usual = load(file("solver", layer[f"{network}solver"])).get(USUAL_DAMPING)
            if usual and not any(f"{network}damping" in stronger for stronger in layers[last:]):
                layer[f"{network}damping"] = usual
    return found


def _same_part(name: str, choice: Any, before: Any) -> bool:
    """Whether a choice is the one before, or the one from which that, a variant, begins."""
    varies = isinstance(before, str) and name != "critic"  # its files add parts to one another
    return choice == before or (varies and choice in _bases(CHOICES[name], before))


def _bases(group: str, choice: str) -> list[str]:
    """The choices that a variant begins from."""
    bases = [base for base in defaults(group, choice)[0] if not base.startswith("_")]
    return [*bases, *(further for base in bases for further in _bases(group, base))]


def _preset_choices(algo: str, env: str) -> Options:
    """Full name -> choice, as config.yaml, algo and env choose; where both choose, algo does."""
    found = {**_defaults(), "algo": algo, "env": env}
    for group in ("env", "algo"):
        found |= {name.rpartition("@")[2]: choice for name, choice in defaults(group, found[group])[1].items()}
    for name, choice in list(found.items()):
        found |= {} if choice is None else _choices_within(name, CHOICES.get(name, name), choice)
    return {name: choice for name, choice in found.items() if name in CHOICES}


def _choices_within(name: str, group: str, choice: str) -> Options:
    """The choices that stand in a choice's file, such as step.optimizer in that of step=ppo."""
    bases, others = defaults(group, choice)
    found: Options = {}
    for base in bases:
        found |= _choices_within(name, group, base)
    return found | {f"{name}.{key.rpartition('@')[2]}": inner for key, inner in others.items() if "@" in key}


def _belongs(name: str, choice: str) -> bool:
    """Whether an option stands in the file of a choice: critic.step.rate in critic.step's, not in critic's."""
    of_another = choice == "critic" and any(name == c or name.startswith(f"{c}.") for c in CHOICES if "." in c)
    return name.startswith(f"{choice}.") and not of_another


def _recipe(chosen: Options) -> str | None:
    """The recipe to take up: the one that was named, or the one of this algorithm on this environment, if any."""
    named = chosen.get("recipe", "auto")
    if named != "auto":
        return None if named is None else str(named)
    automatic = f"{chosen['algo']}-{chosen['env']}"
    return automatic if file("recipe", automatic).is_file() else None


def _named_overrides(group: str, name: str | None) -> Options:
    """The overrides in a file of conf/recipe or conf/experiment; one that begins ``recipe: NAME`` adds to that one."""
    if name is None:
        return {}
    values = load(file(group, name))
    given = read_overrides([f"{key}={_quoted(value)}" for key, value in values.items() if key != group])
    return _merged(_named_overrides(group, values.get(group)), given)


def _quoted(value: Any) -> str:
    """A value of yaml as an override has it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return str(QuotedString(value, Quote.single).with_quotes())
    return str(value).lower() if isinstance(value, bool) else str(value)


@cache
def _defaults() -> Options:
    """Full name -> choice, as config.yaml chooses; None: none."""
    entries = load(conf_dir() / "config.yaml")["defaults"]
    pairs = (pair for entry in entries if isinstance(entry, dict) for pair in entry.items())
    return {str(group).rpartition("@")[2]: name for group, name in pairs}


def _compose_files(chosen: Options, typed: Options) -> DictConfig:
    """The files of all choices, put together by Hydra.

    An optimizer that a recipe or an experiment chooses is left out where the step has none; one that was typed is an
    error.
    """
    files = {name: choice for name, choice in chosen.items() if _is_file(name, choice)}
    while True:
        try:
            config = _compose_by_hydra(tuple(_in_hydras_spelling(n, c) for n, c in files.items()), extra_dirs())
        except ConfigCompositionException as error:
            unused = next((name for name in files if f"@{name}'" in str(error).splitlines()[0]), None)
            if unused is None:
                raise
            if unused in typed:
                raise UserError(f"{short_name(unused)} has no effect without {_choice_around(unused)}") from error
            del files[unused]
            continue
        config = deepcopy(config)
        OmegaConf.set_struct(config, False)
        return config


@lru_cache(maxsize=64)
def _compose_by_hydra(overrides: tuple[str, ...], folders: tuple[Path, ...]) -> DictConfig:
    """The files of these choices, put together; the runs of a sweep that differ in values share the result."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose("config", overrides=list(overrides))


def _is_file(name: str, choice: Any) -> bool:
    return name in CHOICES and name not in ("experiment", "recipe") and isinstance(choice, str)


def _in_hydras_spelling(name: str, choice: str) -> str:
    group = CHOICES[name]
    if name == group:
        return f"{group}={choice}"
    added = "+" if name.endswith(".preconditioner") else ""  # it is no part of the defaults
    return f"{added}{group}@{name}={choice}"


def _choice_around(name: str) -> str:
    """What makes room for another choice within its options, such as metric=average for metric.of."""
    around, _, group = name.rpartition(".")
    if group == "scheduler":
        return f"/{group}@{group} in the defaults of the file of {around}"
    if group == "of":
        return f"{around}={'average' if around.endswith('metric') else 'spring'}"
    return f"{around}=optimizer"


def _set_options(config: DictConfig, options: Options, typed: Options) -> None:
    """Put the options in; one of a recipe or an experiment that the chosen files do not have is left out."""
    for name, value in options.items():
        above, _, key = name.rpartition(".")
        if _is_file(name, value):
            if key == "preconditioner" and key not in _solver_options(above, options):
                raise UserError(_unknown_option(name, config))
            continue
        node = OmegaConf.select(config, above) if above else config
        known = isinstance(node, DictConfig) and key in node.keys()  # noqa: SIM118  # ??? is not "in" it
        if known or any(name.startswith(f"{o}.") and OmegaConf.select(config, o) is not None for o in _OPEN):
            before = OmegaConf.to_container(node).get(key) if known else None  # type: ignore[union-attr]
            whole = type(before) is int or before == "${updates}"
            if isinstance(value, float) and value.is_integer() and whole:
                value = int(value)  # 1e5, for an option that is a whole number
            OmegaConf.update(config, name, value, merge=True, force_add=True)
        elif name in typed:
            raise UserError(_unknown_option(name, config))


def _solver_options(name: str, options: Options) -> dict[str, Any]:
    """The options of the solver that was chosen for ``name`` or, within another one, that its file has there."""
    if name in options:
        return read_choice("solver", options[name])
    above, _, key = name.rpartition(".")
    found: dict[str, Any] = read_choice("solver", options[above]).get(key, {})
    return found


def _drop_critics_update(config: DictConfig, typed: Options) -> None:
    """Take away what only a critic with a network of its own has; what was typed of it is an error."""
    takes = OmegaConf.load(file("critic", "shared"))
    for key in [str(key) for key in config.critic if key not in takes]:
        name = f"critic.{key}"
        if first := min((n for n in typed if n == name or n.startswith(f"{name}.")), default=None):
            shown = short_name(first)
            if key == "keys":
                raise UserError(
                    "critic.keys has no effect with critic=shared: the critic is part of the policy's network and sees "
                    "what that sees; choose critic=mlp"
                )
            raise UserError(
                f"{shown} has no effect with critic=shared: the critic is part of the policy's network and learns by "
                f"the policy's update; type {shown.removeprefix('critic.')}, or choose critic=mlp"
            )
        del config.critic[key]


def _count_updates(steps: Any, batch: Any) -> int | None:
    """steps / batch rounded up; None where they are no numbers, which their own checks say better."""
    numbers = all(isinstance(x, int | float) and 1 <= abs(x) < 1e18 for x in (steps, batch))
    return -(-int(steps) // int(batch)) if numbers else None


def _check_environment(choice: str, id: str) -> None:
    """An env=NAME with another's env.id would keep the name, and so the recipes, of what it is not."""
    usual = load(file("env", choice)).get("env", {}).get("id", id)
    if usual not in ("???", id):
        raise UserError(f"env.id={id} is not env={choice}, whose name and recipe it would keep; leave out env={choice}")


@contextmanager
def _explained() -> Iterator[None]:
    """Hydra's and OmegaConf's errors become UserErrors, in one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        first = str(error).strip().splitlines()[0]
        name = getattr(error, "full_key", None)
        if "mandatory" in first.lower():
            name = "env.id" if name in (None, "env.name") else name  # env.name follows env.id
            raise UserError(f"{name} must be given: {name}=...") from error
        raise UserError(f"{name}: {first}" if name else first) from error
    except YAMLError as error:
        raise UserError(f"a file of choices cannot be read: {in_one_line(error)}") from error


def _unknown_option(name: str, config: DictConfig) -> str:
    """What to say of an option that the chosen files do not have."""
    typed = short_name(name)
    nested = next((n for n in CHOICES if name.startswith(f"{n}.") and n.count(".") > n.startswith("critic.")), None)
    if owners := _owners(name):
        return f"{typed} has no effect here; it is an option of {' and '.join(owners)}{_options_instead(name, config)}"
    if nested and nested.endswith(".preconditioner"):
        return f"{typed} has no effect without {nested}=..., such as diagonal"
    if nested or name in CHOICES:
        return f"{typed} has no effect without {_choice_around(nested or name)}"
    adam = read_choice("optimizer", "adam")
    of_adam = [f"{name}.{option}" for name in ("step.optimizer", "critic.step.optimizer") for option in adam]
    names = [*CHOICES, *flatten(cast("dict[str, Any]", OmegaConf.to_container(config))), *of_adam]
    known = list(dict.fromkeys(short_name(name) for name in names if not name.endswith("_target_")))
    if meant := meant_by(typed):
        return f"there is no option {typed}; here it is {meant}"
    inner = sorted((n for n in known if n.endswith(f".{typed}")), key=len)[:3]
    near = inner or difflib.get_close_matches(typed, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else "; `rlopt train --help` lists the options"
    return f"there is no option {typed}{hint}"


def _options_instead(name: str, config: DictConfig) -> str:
    """`; step=fixed takes rate`: the options of the part that was chosen where this one has no effect."""
    where = name.rpartition(".")[0]
    if where.removeprefix("critic.") not in ACTOR_PARTS:
        return ""
    takes = [key for key in OmegaConf.select(config, where) if key not in ("_target_", name.rpartition(".")[2])]
    return f"; {where}={stands_for(OmegaConf.select(config, where)._target_)} takes {', '.join(takes) or 'no options'}"


def _owners(name: str) -> list[str]:
    """The choices, as group=choice, whose files have this option."""
    network = "critic." if name.startswith("critic.") and name.split(".")[1] in UPDATE_GROUPS else ""
    group, _, option = name.removeprefix(network).partition(".")
    if group not in (*ACTOR_PARTS, "schedule", "policy", "critic", "exploration") or not option:
        return []
    known = own_choices("critic") if group == "critic" else parts(group)
    return [f"{network}{group}={choice}" for choice in known if _has(read_choice(group, choice), option)]


def _has(values: dict[str, Any], option: str) -> bool:
    """Whether these values have the option of this dotted name; it may be null."""
    return option in values or any(name == option or name.startswith(f"{option}.") for name in flatten(values))
