"""Steps to a mean return of 475 for every metric with every solver: scripts/reproduce pairs [--quick] [--draw]

Each run is appended to results/runs.csv when it ends, and runs that stand there are not repeated; then table and
figure. --quick takes a few pairs, one seed, into runs/pairs-quick. --draw makes table and figure of what is there.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments._shared import style
from experiments._shared.data import append_rows, exists, read_rows
from experiments.pairs.training import KEYS, WANTED, Run, train
from rlopt.errors import UserError

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)  # fixed before any was run
QUICK = {"metrics": ["fisher", "identity", "hessian"], "solvers": ["identity", "cg", "kfac"]}


def wanted(quick: bool) -> list[Run]:
    """Every allowed pair with every seed, a seed of all pairs first."""
    from rlopt.config.catalogue import pairs

    found = pairs(QUICK["metrics"], QUICK["solvers"]) if quick else pairs()
    return [(metric, solver, seed) for seed in SEEDS[: 1 if quick else None] for metric, _, s in found for solver in s]


def collect(runs: list[Run], results: Path, jobs: int) -> None:
    """Run what is not yet in ``results``, and append it there."""
    there = read_rows(results) if exists(results) else []
    done = {(row["metric"], row["solver"], int(row["seed"])) for row in there}
    left = [run for run in runs if run not in done]
    results.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train, run): run for run in left}
        for future in as_completed(futures):
            try:
                row = future.result()
            except UserError as error:
                print(f"{futures[future]} is not for this protocol: {error}", flush=True)
                continue
            append_rows(results, KEYS, [list(row.values())])
            told = f"{row['steps']:,} steps" if row["reached"] else f"not reached, {row['return_mean']}"
            print(f"{row['metric']} {row['solver']} seed {row['seed']}: {told}", flush=True)


def cells(rows: list[dict[str, str]]) -> dict[tuple[str, str], tuple[int, int, float | None]]:
    """(metric, solver) -> seeds that reached it, seeds, and the mean of their steps where all did."""
    found: dict[tuple[str, str], tuple[int, int, float | None]] = {}
    for pair in sorted({(row["metric"], row["solver"]) for row in rows}):
        own = [row for row in rows if (row["metric"], row["solver"]) == pair]
        steps = [int(row["steps"]) for row in own if int(row["reached"])]
        found[pair] = len(steps), len(own), statistics.fmean(steps) if len(steps) == len(own) else None
    return found


def label(cell: tuple[int, int, float | None] | None) -> str:
    if cell is None:
        return "-"
    reached, seeds, mean = cell
    return f"({reached}/{seeds})" if mean is None else f"{mean / 1000:.0f}"


def axes(rows: list[dict[str, str]]) -> tuple[list[str], list[str]]:
    """Metrics and solvers, those with most partners first."""
    found = cells(rows)

    def order(place: int) -> list[str]:
        names = sorted({pair[place] for pair in found})
        return sorted(names, key=lambda name: -sum(pair[place] == name for pair in found))

    return order(0), order(1)


def table(rows: list[dict[str, str]]) -> str:
    """Thousand steps, as Markdown."""
    found, (metrics, solvers) = cells(rows), axes(rows)
    lines = ["| metric | " + " | ".join(solvers) + " |", "|---" * (len(solvers) + 1) + "|"]
    for metric in metrics:
        lines.append(f"| {metric} | " + " | ".join(label(found.get((metric, solver))) for solver in solvers) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, str]], path: Path) -> None:
    """A heat map: dark is fast; pairs that do not exist are hatched, pairs that failed are white with their count."""
    found, (metrics, solvers) = cells(rows), axes(rows)
    data = np.full((len(metrics), len(solvers)), np.nan)
    figure, axis = plt.subplots(figsize=(1.5 + 0.75 * len(solvers), 1.3 + 0.45 * len(metrics)), constrained_layout=True)
    for (metric, solver), (_, _, mean) in found.items():
        if mean is not None:
            data[metrics.index(metric), solvers.index(solver)] = mean / 1000
    image = axis.imshow(data, cmap="Greys_r", aspect="auto", vmin=0.8 * np.nanmin(data), vmax=1.1 * np.nanmax(data))
    middle = (image.norm.vmin + image.norm.vmax) / 2
    for i, metric in enumerate(metrics):
        for j, solver in enumerate(solvers):
            cell = found.get((metric, solver))
            if cell is None:
                axis.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", ec="0.8", lw=0))
                continue
            dark = not np.isnan(data[i, j]) and data[i, j] < middle
            axis.text(j, i, label(cell), ha="center", va="center", fontsize=9, color="white" if dark else "black")
    axis.set_xticks(range(len(solvers)), solvers, rotation=35, ha="right")
    axis.set_yticks(range(len(metrics)), metrics)
    axis.set_xticks(np.arange(len(solvers)) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(metrics)) - 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.5)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    seeds = max((count for _, count, _ in found.values()), default=0)
    axis.set(title=f"CartPole: thousand steps to a mean return of {WANTED:.0f}, mean of {seeds} seeds",
             xlabel="solver", ylabel="metric")  # fmt: skip
    style.save(figure, path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps to a mean return of 475 for every metric with every solver.")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--quick", action="store_true", help="a few pairs, one seed, into runs/pairs-quick")
    parser.add_argument("--draw", action="store_true", help="only draw and tabulate what is there")
    options = parser.parse_args()
    folder = Path("runs/pairs-quick") if options.quick else HERE
    results = folder / "results" / "runs.csv"
    if not options.draw:
        collect(wanted(options.quick), results, options.jobs)
    rows = read_rows(results)
    draw(rows, folder / "pairs.png")
    print(table(rows))


if __name__ == "__main__":
    main()
