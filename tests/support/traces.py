"""What a run leaves behind, read back without what the clock has a part in, and compared to the bit."""

from __future__ import annotations

import csv
import json
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlopt.checkpoint import manager as checkpoint


def same(a: object, b: object) -> bool:
    """Equal to the bit, and of the same types; NaN equals NaN."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape):
            return False
        return a.contiguous().view(-1).view(torch.uint8).tolist() == b.contiguous().view(-1).view(torch.uint8).tolist()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def tree_of(run_dir: Path) -> dict[str, Any]:
    """The last checkpoint, without what the clock says."""
    tree = checkpoint.load_newest(run_dir)[1]
    return {k: v for k, v in tree.items() if k not in ("seconds", "wall_seconds", "config")}


def read(run_dir: Path) -> Any:
    """Every event, by TensorBoard's own reader."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every purge
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        return EventAccumulator(
            str(run_dir), size_guidance=dict.fromkeys(("scalars", "histograms", "tensors"), 0)
        ).Reload()


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float | str]]]:
    """name -> (step, value) of every point, as TensorBoard reads them, NaN as text; without times."""
    events = read(run_dir)
    names = [name for name in events.Tags()["scalars"] if not name.startswith("time/") and "second" not in name]
    found = {n: [(e.step, "nan" if math.isnan(e.value) else e.value) for e in events.Scalars(n)] for n in names}
    # a run that was killed between its results and summary.json has the same results twice
    return {n: list(dict.fromkeys(points)) if n.startswith("final/") else points for n, points in found.items()}


def rows(run_dir: Path) -> list[dict[str, str]]:
    """Those of scalars.csv."""
    with (run_dir / "scalars.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def table_of(run_dir: Path) -> list[dict[str, str]]:
    """The rows of scalars.csv, without times."""
    return [{k: v for k, v in row.items() if v and not k.startswith("time/")} for row in rows(run_dir)]


def summary_of(run_dir: Path) -> dict[str, Any]:
    found = json.loads((run_dir / "summary.json").read_text())
    return {k: v for k, v in found.items() if "second" not in k}


def differences(run_dir: Path, whole: Path) -> list[str]:
    """What is not as in the undisturbed run."""
    here, there = tree_of(run_dir), tree_of(whole)
    found = [f"checkpoint's {k}" for k in here.keys() | there.keys() if not same(here.get(k), there.get(k))]
    here, there = scalars(run_dir), scalars(whole)
    found += [f"scalar {k}" for k in here.keys() | there.keys() if here.get(k) != there.get(k)]
    for name, read in (("summary", summary_of), ("table", table_of)):
        found += [name] if read(run_dir) != read(whole) else []
    return found
