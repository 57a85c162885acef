"""What a run recorded over its steps: from scalars.csv where it wrote one, else from its TensorBoard events."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlopt.loggers.csv import NAME, read

Array = NDArray[np.float64]


class Series(NamedTuple):
    steps: Array  # (N,), increasing
    values: Array  # (N,), finite


def scalars(run_dir: Path, names: Sequence[str]) -> dict[str, Series]:
    """Those of ``names`` that the run recorded. A run that is still being written is read as far as it goes."""
    file = run_dir / NAME
    found = _from_csv(file, names) if file.is_file() else _from_events(run_dir, names)
    series = {name: _series(points) for name, points in found.items()}
    return {name: s for name, s in series.items() if len(s.steps)}


def _from_csv(file: Path, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """From a row for each update; a scalar that an update lacks is an empty cell."""
    rows = read(file)
    return {name: [(float(row["step"]), float(row[name])) for row in rows if row.get(name)] for name in names}


def _from_events(run_dir: Path, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every restart of a run
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0, "tensors": 1, "histograms": 1})
        events.Reload()
    there = set(events.Tags()["scalars"]) & set(names)
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in there}


def _series(points: list[tuple[float, float]]) -> Series:
    """In the order of the steps, the last value where a step was recorded twice, without what is not finite."""
    last = {step: value for step, value in points if np.isfinite(value)}
    steps = np.array(sorted(last))
    return Series(steps, np.array([last[step] for step in steps]))
