"""Configurations in files, as plain values: the file of a choice, and the config.yaml that a run saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlopt.config.choices import USUAL_DAMPING, file
from rlopt.config.extensions import imported, is_given
from rlopt.errors import UserError, in_one_line
from rlopt.files import flatten
from rlopt.files.reading import exists, read_yaml

_MOST = {"num_envs": 100_000, "hidden": 2**30}  # environments; weights between two layers
COPY = "each of its checkpoints holds a copy: the JSON in the header of its file has it under config"


def load_run(run_dir: Path, needs_environment: bool = True) -> dict[str, Any]:
    """The configuration that the run in this folder saved, in plain values. Raises UserError where there is none.

    One whose environment is in a module that is not imported is read only where the environment is not needed.
    """
    try:
        has_config, has_checkpoints = exists(run_dir / "config.yaml"), (run_dir / "checkpoints").is_dir()
    except OSError as error:
        raise UserError(f"{run_dir} cannot be read: {error.strerror}") from error
    if not has_config:
        hint = f"; {COPY}" if has_checkpoints else ""
        raise UserError(f"{run_dir} is not the folder of a run: it has no config.yaml{hint}")
    plain = load(path := run_dir / "config.yaml", needs_environment)
    if "algo" not in plain:
        raise UserError(f"{path} is not a run's configuration: it lacks algo; {COPY}")
    if "recipe" not in plain:
        raise UserError(f"{path} has the form of an earlier rlopt (it lacks recipe): use that version, or train anew")
    _check_sizes(plain, path)
    return plain


def _check_sizes(plain: Mapping[str, Any], path: Path) -> None:
    """Raise UserError for sizes that no run has, before anything of these sizes is made."""
    for name, value in flatten(plain).items():
        most, sizes = _MOST.get(name.rpartition(".")[2]), value if isinstance(value, list) else [value]
        numbers = most is not None and all(isinstance(x, int | float) for x in sizes)  # else refused when it is parsed
        if numbers and any(a * b > most for a, b in zip(sizes, [*sizes[1:], 1], strict=False)):
            raise UserError(f"{path} has {name}={value}, which is larger than a run can be; {COPY}")


def load(path: Path, needs_environment: bool = True) -> dict[str, Any]:
    """The values of a yaml file, a saved config.yaml or the file of a choice.

    Loads no code because of it: env.id=MODULE:NAME is refused where MODULE has not been imported already, unless the
    environment is not needed.
    """
    try:
        plain = read_yaml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {in_one_line(error)}") from error
    if not isinstance(plain, dict) or not plain:
        raise UserError(f"{path} is not a run's configuration")
    env = plain.get("env")
    name = str(env.get("id")) if isinstance(env, dict) else ""
    module, colon, _ = name.rpartition(":")
    if needs_environment and colon and imported(module) is None and not is_given(name):
        raise UserError(
            f"{path} names the environment {name}, which needs the module {module}. rlopt imports no module that "
            f"only a file names; if you trust this one, add --import {module}"
        )
    return {str(k): v for k, v in plain.items()}


def read_choice(group: str, choice: str) -> dict[str, Any]:
    """The values of a choice's file; those of a variant on top of the choice that it begins from.

    Choices of other groups, as an optimizer within a step, are read as well.
    """
    values = load(file(group, choice))
    values.pop(USUAL_DAMPING, None)
    below: dict[str, Any] = {}
    for entry in values.pop("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            below |= read_choice(group, entry)
        elif isinstance(entry, dict):
            ((spelled, name),) = entry.items()
            other, _, key = str(spelled).removeprefix("override ").lstrip("/").partition("@")
            below[key] = read_choice(other, str(name))
    return {**below, **values}


def to_yaml(config: Mapping[str, Any]) -> str:
    """A plain configuration as text."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))
