"""Variance reduction against the plain gradient: scripts/reproduce variance_reduction [--quick] [--figures] [--jobs N]

Searches a learning rate for every method on seeds 100 to 102, trains ten seeds with it, and writes results/search.csv
and runs.csv (one line a run), curves.csv and errors.csv (means of a run over equal parts of its steps), weights.csv
(see weights.py), a table, curves.png and weights.png. A run that is in results/ already is not repeated. --figures
makes table and figures anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import numpy as np

from experiments._shared import study, style, trained
from experiments._shared.data import append_rows, exists, read_rows, write_rows
from experiments.variance_reduction import training, weights
from experiments.variance_reduction.training import BARS, METHODS, Job, train

HERE = Path(__file__).parent
TITLES = {"cartpole": "CartPole-v1", "lqr": "linear-quadratic regulator"}
RATES = {"cartpole": (1e-3, 3e-3, 1e-2), "lqr": (1e-2, 3e-2, 1e-1)}  # fixed before any seed below was run
LIMITS = {"cartpole": 60_000, "lqr": 40_000}  # steps of a run; one that is not at the bar counts as this long
SEARCHED, SEEDS = range(100, 103), range(10)
POINTS = 50  # of a curve
RUN = ["environment", "method", "rate", "seed", "reached"]
POINT = ["environment", "method", "seed", "step", "value"]


def search(environments: Iterable[str], limits: dict[str, int], seeds: range) -> list[Job]:
    return [
        Job(e, m, rate, seed, limits[e], True)
        for e in environments
        for m in METHODS
        for rate in RATES[e]
        for seed in seeds
    ]


def chosen(results: Path, limits: dict[str, int]) -> dict[tuple[str, str], float]:
    """The learning rate that needs the fewest steps to the bar, in the mean over seeds; the smaller one in a tie."""
    steps: dict[tuple[str, str], dict[float, list[float]]] = {}
    for row in read_rows(results / "search.csv"):
        of_method = steps.setdefault((row["environment"], row["method"]), {})
        of_method.setdefault(float(row["rate"]), []).append(_needed(row, limits))
    return {key: min(sorted(rates), key=lambda r: mean(rates[r])) for key, rates in steps.items()}


def collect(jobs: list[Job], file: Path, workers: int) -> None:
    """Run what is not yet in ``file``, and write it there; curves and errors of whole runs beside it."""
    rows = read_rows(file) if exists(file) else []
    there = {(r["environment"], r["method"], float(r["rate"]), int(r["seed"])) for r in rows}
    left = [job for job in jobs if job[:4] not in there]
    with ProcessPoolExecutor(workers) as pool:
        for job, path in zip(left, pool.map(train, left), strict=True):
            append_rows(file, RUN, [[*job[:4], "" if path.reached is None else path.reached]])
            if not job.stops:
                steps, key = np.array(path.steps), (job.environment, job.method, job.seed)
                for name, values in (("curves", path.values), ("errors", path.errors)):
                    append_rows(file.with_name(f"{name}.csv"), POINT, _thinned(key, job.limit, steps, np.array(values)))
            print(f"{' '.join(map(str, job[:4]))}: {path.reached}", flush=True)


def _thinned(key: tuple[Any, ...], limit: int, steps: np.ndarray, values: np.ndarray) -> list[list[Any]]:
    """The mean of each of POINTS equal parts of the steps; parts without a value are left out."""
    edges = np.linspace(0, limit, POINTS + 1)
    parts = [(edge, values[(steps > low) & (steps <= edge)]) for low, edge in zip(edges, edges[1:], strict=False)]
    known = [(edge, part[~np.isnan(part)]) for edge, part in parts]
    return [[*key, int(edge), f"{part.mean():.5g}"] for edge, part in known if len(part)]


def _needed(row: dict[str, str], limits: dict[str, int]) -> float:
    return float(row["reached"] or limits[row["environment"]])


def tables(results: Path, limits: dict[str, int]) -> str:
    """Steps to the bar and differences from the plain gradient, as Markdown."""
    rows, errors = read_rows(results / "runs.csv"), read_rows(results / "errors.csv")
    lines = ["| environment | method | learning rate | at the bar | steps to it, mean (95% t) | "
             "less vpg's, by seed (95% t) | error of v, median |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for environment in dict.fromkeys(row["environment"] for row in rows):
        steps = {
            m: {int(r["seed"]): _needed(r, limits) for r in rows if (r["environment"], r["method"]) == (environment, m)}
            for m in METHODS
        }
        for method, needed in steps.items():
            mine = [r for r in rows if (r["environment"], r["method"]) == (environment, method)]
            there = sum(bool(r["reached"]) for r in mine)
            less = "-" if method == "vpg" else _spread([needed[s] - steps["vpg"][s] for s in sorted(needed)], "+,.0f")
            of = [float(r["value"]) for r in errors if (r["environment"], r["method"]) == (environment, method)]
            lines.append(
                f"| {TITLES[environment]} | {method} | {float(mine[0]['rate']):g} | {there} of {len(mine)} "
                f"| {_spread(list(needed.values()), ',.0f')} | {less} | {f'{np.median(of):.2f}' if of else '-'} |"
            )
    return "\n".join(lines)


def _spread(values: list[float], form: str) -> str:
    low, high = trained.interval(values)
    return f"{mean(values):{form}} ({low:{form}} to {high:{form}})"


def draw(results: Path, picture: Path, limits: dict[str, int]) -> None:
    """curves.png: the curve in each environment, and the error of the regulator's directions."""
    style.small(10)
    figure, axes = style.panels(3, 13, 3.9)
    curves, errors = (
        [{**row, "name": row["method"], "return": row["value"]} for row in read_rows(results / f"{name}.csv")]
        for name in ("curves", "errors")
    )
    panels = [("cartpole", curves, "return of training episodes"), ("lqr", curves, "J, median and quartiles"),
              ("lqr", errors, "|v - grad J|² / |grad J|², median")]  # fmt: skip
    for axis, (environment, rows, label) in zip(axes, panels, strict=True):
        for method, (color, dash) in zip(METHODS, style.CURVES, strict=False):
            found = trained.curves(rows, method, environment)
            if environment == "lqr":  # where some policies have J = -inf
                _median(axis, found, limits[environment], method, rows is curves, color=color, linestyle=dash)
            else:
                trained.band(axis, found, limits[environment], method, color=color, linestyle=dash)
        if rows is curves:
            axis.axhline(BARS[environment], color="black", linewidth=0.6)
        axis.set(title=TITLES[environment], xlabel="thousand environment steps", ylabel=label)
        axis.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(training.FIRST - 2, training.BEST + 1)
    axes[2].set_yscale("log")
    axes[0].legend(frameon=False)
    style.save(figure, picture)


def _median(
    axis: Any, found: dict[int, tuple[list[float], list[float]]], end: int, label: str, quartiles: bool, **line: Any
) -> None:
    """The median over seeds of what each part of the steps holds, with quartiles if asked for."""
    grid = np.linspace(0, end, POINTS + 1)[1:].astype(int)
    at = [[y[x.index(edge)] for x, y in found.values() if edge in x] for edge in grid]
    x = [edge / 1000 for edge, values in zip(grid, at, strict=True) if values]
    low, middle, high = np.array(
        [np.percentile(values, (25, 50, 75), method="nearest") for values in at if values]
    ).T  # -inf is no mean of neighbours
    axis.plot(x, middle, label=label, linewidth=1.8, **line)
    if quartiles:
        axis.fill_between(x, low.clip(training.FIRST * 2), high, color=line["color"], alpha=0.18, linewidth=0)


def draw_weights(results: Path, picture: Path) -> None:
    """weights.png: the error of the correction by the distance from the snapshot."""
    rows = read_rows(results / "weights.csv")
    figure, axis = style.panels(1, 5.5, 3.6)
    for kind, (color, dash) in zip(weights.KINDS, style.CURVES, strict=False):
        mine = [(float(r["distance"]), float(r["error"])) for r in rows if r["weights"] == kind]
        axis.loglog(*zip(*mine, strict=True), color=color, linestyle=dash, marker="o", markersize=4, label=kind)
    axis.axhline(1, color="black", linewidth=0.6)
    axis.set(xlabel="distance from the snapshot, in k and in log σ", ylabel="error of g - g_w over that of g")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    style.save(figure, picture)


def main() -> int:
    parser = study.parser(
        "Variance reduction against the plain gradient.", "one rate, two seeds, an eighth of the steps"
    )
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (1)")
    options = parser.parse_args()
    out = study.folder(HERE, options)
    results = out / "results"
    limits = {e: limit // 8 for e, limit in LIMITS.items()} if options.quick else LIMITS
    if not options.figures:
        if options.quick:
            rates = {(e, m): RATES[e][1] for e in BARS for m in METHODS}
        else:
            collect(search(BARS, limits, SEARCHED), results / "search.csv", options.jobs)
            rates = chosen(results, limits)
        seeds = range(2) if options.quick else SEEDS
        runs = [Job(e, m, rates[e, m], seed, limits[e], False) for e in BARS for m in METHODS for seed in seeds]
        collect(runs, results / "runs.csv", options.jobs)
        found = weights.errors(10 if options.quick else 400)
        write_rows(results / "weights.csv", ["weights", "distance", "error"], found, digits=4)
    draw(results, out / "curves.png", limits)
    draw_weights(results, out / "weights.png")
    print(tables(results, limits))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
