"""What experiments that train have in common: runs in processes of their own, kept as data, resumed where they stopped.

A run is `rlopt train` with the overrides given; results/runs.csv holds one line a run, from its summary.json, and
results/curves.csv its training curve, as (step, mean return of the episodes that ended since the point before).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from threading import Lock
from typing import Any, NamedTuple

from experiments._shared import study
from experiments._shared.data import append_rows, exists, read_rows

SUMMARY = ("steps", "evaluation_return", "evaluation_std", "sampled_evaluation_return", "return_mean",
           "steps_per_second", "skipped")  # fmt: skip
POINTS = 200  # of a curve, at most
_CURVES = "![Training curves](curves.png)"


class Run(NamedTuple):
    """One training run; ``name`` is that of its row in tables."""

    name: str
    env: str
    steps: int
    seed: int
    overrides: tuple[str, ...]  # besides env, steps and seed

    @property
    def key(self) -> tuple[str, str, str]:
        return self.name, self.env, str(self.seed)


def parser(about: str, quick: str, jobs: int = 2) -> argparse.ArgumentParser:
    """The options of an experiment that trains; ``quick`` says what is left of it."""
    made = argparse.ArgumentParser(description=about)
    made.add_argument("--jobs", type=int, default=jobs, help=f"runs at a time ({jobs})")
    made.add_argument("--draw", action="store_true", help="only draw and tabulate what is there")
    made.add_argument("--quick", action="store_true", help=f"{quick}, into runs/NAME-quick")
    return made


def places(here: Path, quick: bool) -> tuple[Path, Path]:
    """Where data go, and where the figure does: beside the code in the folder ``here``, or with ``quick`` in runs/."""
    results = here.parents[1] / f"runs/{here.name}-quick" if quick else here / "results"
    return results, results if quick else here


def finish(here: Path, quick: bool, shown: str, claims: list[tuple[str, bool]], figure: str = _CURVES) -> int:
    """Print the table; without ``quick`` put it and the figure into the page. Returns the exit status."""
    print(shown)
    if quick:
        study.verdict(claims, places(here, quick)[1])
        return 0
    study.publish(here / "README.md", f"{figure}\n\n{shown}")
    return study.verdict(claims, here)


def collect(runs: Sequence[Run], results: Path, jobs: int, means: Sequence[str] = ()) -> None:
    """Run what is not yet in ``results``, ``jobs`` at a time, each on one thread; ``means`` are scalars' over a run."""
    results.mkdir(parents=True, exist_ok=True)
    rows = read_rows(results / "runs.csv") if exists(results / "runs.csv") else []
    there = {(row["name"], row["environment"], row["seed"]) for row in rows}
    lock = Lock()

    def one(run: Run) -> None:
        summary, curve = train(run, means)
        with lock:
            columns = (*SUMMARY, *means)
            row = [*run.key, *(summary.get(key) for key in columns)]
            append_rows(results / "runs.csv", ["name", "environment", "seed", *columns], [row])
            points = [[*run.key, step, f"{value:.6g}"] for step, value in curve]
            append_rows(results / "curves.csv", ["name", "environment", "seed", "step", "return"], points)
        print(f"{run.name} on {run.env}, seed {run.seed}: {summary['evaluation_return']:.1f}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, [run for run in runs if run.key not in there]))


def train(run: Run, means: Sequence[str] = ()) -> tuple[dict[str, Any], list[tuple[int, float]]]:
    """One run -> its summary, with the updates that were skipped and ``means`` of its scalars, and its curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run_dir = f"{folder}/run"
        command = [sys.executable, "-m", "rlopt", "train", f"env={run.env}", f"total_steps={run.steps}",
                   f"seed={run.seed}", f"run_dir={run_dir}", *run.overrides]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        summary = json.loads(Path(run_dir, "summary.json").read_text())
        events = EventAccumulator(run_dir, size_guidance={"scalars": 0}).Reload()
        ended = "episode/return" in events.Tags()["scalars"]  # not where no episode has
        curve = [(event.step, event.value) for event in events.Scalars("episode/return")] if ended else []
        summary["skipped"] = int(events.Scalars("update/skipped")[-1].value)
        summary |= {name: mean([event.value for event in events.Scalars(name)]) for name in means}
    return summary, thinned(curve)


def thinned(curve: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most POINTS points, each the mean of those it stands for, at the last one's step."""
    size = -(-len(curve) // POINTS) or 1
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def evaluations(rows: Sequence[dict[str, str]], name: str, env: str) -> list[float]:
    """Evaluation returns of one row of a table, by seed."""
    found = {
        int(r["seed"]): float(r["evaluation_return"]) for r in rows if (r["name"], r["environment"]) == (name, env)
    }
    return [found[seed] for seed in sorted(found)]


def curves(rows: Sequence[dict[str, str]], name: str, env: str) -> dict[int, tuple[list[float], list[float]]]:
    """seed -> (steps, returns)."""
    found: dict[int, tuple[list[float], list[float]]] = {}
    for row in rows:
        if (row["name"], row["environment"]) == (name, env):
            steps, values = found.setdefault(int(row["seed"]), ([], []))
            steps.append(float(row["step"]))
            values.append(float(row["return"]))
    return dict(sorted(found.items()))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% t interval of the mean."""
    from scipy import stats

    if len(set(values)) == 1:
        return values[0], values[0]
    low, high = stats.t.interval(0.95, len(values) - 1, sum(values) / len(values), stats.sem(values))
    return float(low), float(high)


def mean_with_interval(values: Sequence[float]) -> str:
    """Mean and 95% t interval as a table has them; a single value stands for both bounds."""
    low, high = interval(values) if len(values) > 1 else (values[0], values[0])
    return f"{sum(values) / len(values):.4g} ({low:.4g} to {high:.4g})"


def band(axis: Any, found: dict[int, tuple[list[float], list[float]]], end: int, label: str, **style: Any) -> None:
    """Mean over seeds with its 95% t interval, on a grid of a hundred steps."""
    import numpy as np

    grid = np.linspace(0, end, 101)[1:]
    data = np.array([np.interp(grid, x, y, left=np.nan) for x, y in found.values()])
    shown = ~np.isnan(data).any(0)
    grid, data = grid[shown], data[:, shown]
    bounds = np.array([interval(list(column)) for column in data.T])
    axis.plot(grid / 1000, data.mean(0), label=label, linewidth=1.8, **style)
    axis.fill_between(grid / 1000, bounds[:, 0], bounds[:, 1], color=style["color"], alpha=0.18, linewidth=0)
