"""Runs on disk: found below folders, read, and those that cannot be compared named with the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlopt.config.choices import stands_for
from rlopt.errors import UserError
from rlopt.loggers import console
from rlopt.report.scalars import Array, Series, scalars

_SECONDS = ("time/collect", "time/update")


@dataclass(frozen=True)
class Run:
    path: Path
    config: Mapping[str, str]  # option as one types it -> value
    summary: Mapping[str, Any]  # empty if unfinished
    steps: Array  # (N,) of the points of the curve
    values: Array  # (N,)
    seconds: Array  # (N,) of training until then: collecting and updating, nothing else

    @property
    def environment(self) -> str:
        return self.config["env.id"]

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


@dataclass(frozen=True)
class LeftOut:
    path: Path
    why: str


class Unusable(Exception):
    """A run that cannot be compared; the message says why."""


def read_all(places: Sequence[Path], scalar: str, unfinished: bool) -> tuple[list[Run], list[LeftOut]]:
    """The runs in ``places`` and below, and what was left out; raises UserError where nothing remains."""
    runs, left_out = [], []
    for folder in find(places):
        try:
            runs.append(read(folder, scalar, unfinished))
        except Unusable as reason:
            left_out.append(LeftOut(folder, str(reason)))
    runs, again = _one_for_each_seed(runs)
    left_out += again
    if not runs:
        raise UserError("no run can be shown: " + "; ".join(f"{one.path}: {one.why}" for one in left_out))
    return runs, left_out


def find(places: Sequence[Path]) -> list[Path]:
    """Folders with a config.yaml, each once; those below one place in the order of their names."""
    found: dict[Path, Path] = {}
    for place in places:
        if not place.is_dir():
            raise UserError(f"{place} is not a folder; give folders of runs, or one that holds them")
        there = _below(place)
        if not there:
            raise UserError(f"{place} holds no run: there is no config.yaml in it or below")
        for folder in there:
            found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _below(place: Path) -> list[Path]:
    found = []
    for folder, inside, files in os.walk(place):
        inside.sort()
        if "config.yaml" in files:
            found.append(Path(folder))
            inside.clear()
    return found


def read(folder: Path, scalar: str, unfinished: bool) -> Run:
    """One run; raises Unusable."""
    config = _config(folder / "config.yaml")
    summary: Any = {}
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise Unusable(f"summary.json cannot be read: {error}") from error
    if not isinstance(summary, dict):
        raise Unusable("summary.json holds no summary")
    try:
        found = scalars(folder, (scalar, *_SECONDS))
    except Exception as error:  # whatever a broken file makes of its reader
        raise Unusable(f"its record cannot be read: {error}") from error
    if not summary and not unfinished:
        steps = max((s.steps[-1] for s in found.values()), default=0)
        fault = ", see its error.txt" if (folder / "error.txt").exists() else ""
        raise Unusable(f"unfinished, at step {steps:,.0f} of {config.get('total_steps', '?')}{fault}")
    if scalar not in found:
        raise Unusable(f"it has recorded no {scalar}")
    steps, values = found[scalar]
    return Run(folder, config, summary, steps, values, _seconds(found, steps))


def _seconds(found: Mapping[str, Series], steps: Array) -> Array:
    parts = [found[name] for name in _SECONDS if name in found]
    if not parts:
        return np.full_like(steps, np.nan)
    return np.sum([np.interp(steps, part.steps, np.cumsum(part.values)) for part in parts], 0)


def _config(file: Path) -> dict[str, str]:
    try:
        plain = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise Unusable(f"config.yaml cannot be read: {' '.join(str(error).split())}") from error
    config = flat(plain) if isinstance(plain, dict) else {}
    if not {"algo", "env.id", "seed"} <= set(config) or not config["seed"].isdecimal():
        raise Unusable("config.yaml is not that of a run: it lacks algo, env.id or seed")
    return config


def flat(node: Mapping[str, Any], place: str = "") -> dict[str, str]:
    """Nested configuration -> options as one types them; a part is its choice: solver -> kfac."""
    found: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            # both stand inside the step that uses them, and are typed without it
            inside = place.removesuffix("step.") if key in ("optimizer", "scheduler") else place
            found |= flat(value, f"{inside}{key}.")
        elif key == "_target_":
            found[place.removesuffix(".")] = stands_for(str(value)) or str(value)
        else:
            found[f"{place}{key}"] = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return found


def _one_for_each_seed(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Of runs that differ in nothing but their folder only the one last begun: they are no further samples."""
    kept: dict[tuple[tuple[str, str], ...], Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: (run.path / "config.yaml").stat().st_mtime):
        key = tuple(sorted((k, v) for k, v in run.config.items() if k != "run_dir"))
        if key in kept:
            left_out.append(LeftOut(kept[key].path, f"the same run as {run.path}, which is newer"))
        kept[key] = run
    return [run for run in runs if any(run is one for one in kept.values())], left_out


def tell(left_out: Sequence[LeftOut]) -> None:
    """Name on the terminal what is not shown."""
    for one in left_out:
        console.info(f"rlopt: left out {one.path}: {one.why}")
