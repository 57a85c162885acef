"""Runs on disk: find them below folders and read them. Runs that cannot be compared are left out with a reason.

A run's scalars come from scalars.csv if it wrote one, else from its TensorBoard events.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlopt.config.choices import stands_for
from rlopt.errors import UserError, in_one_line
from rlopt.files import flatten
from rlopt.files.reading import exists, open_regular, read_json, read_yaml
from rlopt.loggers import console, csv
from rlopt.loggers.console import printable

Array = NDArray[np.float64]
_SECONDS = ("time/collect", "time/update")
_MOST_OWN = 12  # scalars of record.info in a report
_LARGEST_EVENTS = 2**28  # bytes of a file of events
_LARGEST_VALUE = 1e100  # averages, intervals and axes of larger ones are beyond the range of numbers


class Series(NamedTuple):
    """A scalar over a run."""

    steps: Array  # (N,), increasing
    values: Array  # (N,), finite


@dataclass(frozen=True)
class Run:
    """A run's configuration, summary and learning curve."""

    path: Path
    config: Mapping[str, str]  # option, as on the command line -> value
    summary: Mapping[str, Any]  # empty if the run is unfinished
    steps: Array  # (N,) environment steps at the curve's points
    values: Array  # (N,) the scalar that is compared
    seconds: Array  # (N,) of collecting and updating up to each point
    own: Mapping[str, Series] = field(default_factory=dict)  # the scalars of record.info, see rollout.infos

    @property
    def environment(self) -> str:
        return self.config["env.id"]

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


@dataclass(frozen=True)
class LeftOut:
    """A folder that is not shown, and why."""

    path: Path
    why: str


class Unusable(Exception):
    """A run cannot be compared; the message says why."""


def read_all(folders: Sequence[Path], scalar: str, unfinished: bool) -> tuple[list[Run], list[LeftOut]]:
    """The runs in ``folders`` and below, and the folders left out, which are printed. Raises UserError if none remains.

    ``scalar`` is the curve's name. Unfinished runs are left out unless ``unfinished`` is true.
    """
    runs, left_out = [], []
    for folder in find_runs(folders):
        try:
            runs.append(read(folder, scalar, unfinished))
        except Unusable as reason:
            left_out.append(LeftOut(folder, str(reason)))
    runs, again = _one_for_each_seed(runs)
    left_out += again
    if not runs:
        raise UserError("no run can be shown: " + "; ".join(f"{one.path}: {one.why}" for one in left_out))
    for one in left_out:
        console.info(f"rlopt: left out {one.path}: {one.why}")
    return runs, left_out


def find_runs(folders: Sequence[Path]) -> list[Path]:
    """Folders with a config.yaml in or below each of ``folders``, each once, in the order of their names."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; give folders of runs, or one that holds them")
        holds_run = False
        for path, inside, files in os.walk(folder):
            inside.sort()
            if "config.yaml" in files:
                holds_run = True
                found.setdefault(Path(path).resolve(), Path(path))
                inside.clear()  # a run's own folders are not searched
        if not holds_run:
            raise UserError(f"{folder} holds no run: there is no config.yaml in it or below")
    return list(found.values())


def read(folder: Path, scalar: str, unfinished: bool) -> Run:
    """The run in a folder. Raises Unusable."""
    config = _read_config(folder / "config.yaml")
    summary: Any = {}
    try:
        summary = read_json(folder / "summary.json")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise Unusable(f"summary.json cannot be read: {error}") from error
    if not isinstance(summary, dict):
        raise Unusable("summary.json holds no summary")
    try:
        own = _own_scalars(folder)
        found = read_scalars(folder, (scalar, *_SECONDS, *own))
    except Exception as error:  # a broken file may raise anything in its reader
        raise Unusable(f"its record cannot be read: {error}") from error
    if not summary and not unfinished:
        steps = max((s.steps[-1] for s in found.values()), default=0)
        fault = ", see its error.txt" if (folder / "error.txt").exists() else ""
        raise Unusable(f"unfinished, at step {steps:,.0f} of {config.get('total_steps', '?')}{fault}")
    if scalar not in found:
        raise Unusable(f"it has recorded no {scalar}")
    steps, values = found[scalar]
    infos = {name: found[name] for name in own if name in found}
    return Run(folder, config, summary, steps, values, _seconds(found, steps), infos)


def _own_scalars(folder: Path) -> list[str]:
    """The names of the scalars of record.info in scalars.csv."""
    file = folder / csv.NAME
    return csv.names_within(file, "info")[:_MOST_OWN] if exists(file) else []


def _seconds(found: Mapping[str, Series], steps: Array) -> Array:
    """Seconds of training up to each of ``steps`` (N,); nan if they were not recorded."""
    parts = [found[name] for name in _SECONDS if name in found]
    if not parts:
        return np.full_like(steps, np.nan)
    return np.sum([np.interp(steps, part.steps, np.cumsum(part.values)) for part in parts], 0)


def _read_config(file: Path) -> dict[str, str]:
    """The options of config.yaml. Raises Unusable."""
    try:
        plain = read_yaml(file)
    except (OSError, ValueError) as error:
        raise Unusable(f"config.yaml cannot be read: {in_one_line(error)}") from error
    config = flat_options(plain) if isinstance(plain, dict) else {}
    config = {name: " ".join(printable(value).split()) for name, value in config.items()}
    if not {"algo", "env.id", "seed"} <= set(config) or not re.fullmatch(r"\d{1,18}", config["seed"]):
        raise Unusable("config.yaml is not that of a run: it lacks algo, env.id or seed")
    return config


def flat_options(config: Mapping[str, Any]) -> dict[str, str]:
    """A nested configuration by its options as they are typed: a part is its choice, such as solver -> kfac."""
    options: dict[str, str] = {}
    for name, value in flatten(config).items():
        # optimizer and scheduler lie inside the step that uses them, and are typed without it
        name = re.sub(r"(^|\.)step\.(optimizer|scheduler)\.", r"\1\2.", name)
        if name.rpartition(".")[2] == "_target_":
            options[name.rpartition(".")[0]] = stands_for(str(value)) or str(value)
        else:
            options[name] = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return options


def read_scalars(run_dir: Path, names: Sequence[str]) -> dict[str, Series]:
    """The series of those ``names`` that the run recorded. A run that still goes on is read up to its last point."""
    file = run_dir / csv.NAME
    found = csv.read(file, names) if exists(file) else _from_events(run_dir, names)
    series = {name: _series(points) for name, points in found.items()}
    return {name: s for name, s in series.items() if len(s.steps)}


def _from_events(run_dir: Path, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Points (step, value) from TensorBoard's events. Raises ValueError where a file is not regular or too large."""
    for path in run_dir.glob("*tfevents*"):  # as TensorBoard looks for them
        try:
            open_regular(path, _LARGEST_EVENTS).close()
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every resume of a run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "tensors": 1, "histograms": 1})
        events.Reload()
    recorded = set(events.Tags()["scalars"]) & set(names)
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in recorded}


def _series(points: list[tuple[float, float]]) -> Series:
    """Finite points in the order of their steps; of two points with one step the later."""
    last = {step: value for step, value in points if np.isfinite(value)}
    if largest := max((abs(value) for value in last.values() if abs(value) > _LARGEST_VALUE), default=0):
        raise ValueError(f"it holds {largest:.3g}, and no more than {_LARGEST_VALUE:.0e} can be drawn")
    steps = np.array(sorted(last))
    return Series(steps, np.array([last[step] for step in steps]))


def _one_for_each_seed(runs: list[Run]) -> tuple[list[Run], list[LeftOut]]:
    """Keep the run that began last among runs that differ in their folder alone, as these are one sample."""
    kept: dict[tuple[tuple[str, str], ...], Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda run: (run.path / "config.yaml").stat().st_mtime):
        key = tuple(sorted((k, v) for k, v in run.config.items() if k != "run_dir"))
        if key in kept:
            left_out.append(LeftOut(kept[key].path, f"the same run as {run.path}, which is newer"))
        kept[key] = run
    return [run for run in runs if any(run is one for one in kept.values())], left_out
