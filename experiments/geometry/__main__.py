"""Which geometry for the actor, by steps and by seconds: scripts/reproduce geometry [--quick] [--draw] ...

Searches every method's radius (or rate) on seeds 100 and up, then trains with it on seeds 0 and up, then times an
update by width and by batch. Each run is appended to results/ when it ends, and what stands there is not repeated, so
that the same command goes on where it was stopped. Then tables and figures. --quick is one environment, a few updates,
into runs/geometry-quick.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

from experiments._shared import study
from experiments._shared.data import append_rows, exists, read_rows
from experiments.geometry import cost, pairs, report
from experiments.geometry.training import METHODS, Run, train
from rlopt.errors import UserError

HERE = Path(__file__).parent
ENVIRONMENTS = ("halfcheetah", "hopper", "walker2d", "ant")
STEPS, SEEDS, TUNED = 300_000, 10, 1
SEARCH = ["method", "environment", "value", "seed", "steps", "score", "kl", "seconds", "skipped"]
RUNS = [*SEARCH, "waste", "residual"]
CURVES = ["method", "environment", "value", "seed", "step", "seconds", "return"]


def searched(
    methods: Sequence[str], environments: Sequence[str], seeds: int, steps: int, rows: Sequence[report.Row]
) -> list[Run]:
    """What the search is to run: the middle of every grid, and an end beside the best where ``rows`` has the middle.

    On seeds 100 and up, a seed of all first. Scores with one peak along the grid give the value that all five would.
    """
    runs: list[Run] = []
    ends: dict[str, list[float]] = {}
    middles = {method: METHODS[method].grid[1:-1] for method in METHODS}
    # of all methods, as in `report.chosen` of the whole file
    middle_rows = [row for row in rows if float(row["value"]) in middles[row["method"]]]
    places = set(product(methods, environments, range(100, 100 + seeds)))
    if sum(report.key(row) in places for row in middle_rows) == sum(len(middles[method]) for method, _, _ in places):
        for method, best in report.chosen(middle_rows).items():  # so that a search that is begun again does the same
            low, *middle, high = METHODS[method].grid
            ends[method] = {middle[0]: [low], middle[-1]: [high]}.get(best, [])
    for seed in range(100, 100 + seeds):
        for environment in environments:
            for method in methods:
                values = sorted([*middles[method], *ends.get(method, [])])
                runs += [Run(method, environment, value, seed, steps) for value in values]
    return runs


def collect(runs: Sequence[Run], file: Path, jobs: int, columns: Sequence[str], curves: Path | None = None) -> None:
    """Train what is not yet in ``file``, ``jobs`` at a time, and append there what ``columns`` ask for."""
    rows = read_rows(file) if exists(file) else []
    there = {(r["method"], r["environment"], float(r["value"]), int(r["seed"]), int(r["steps"])) for r in rows}
    left = [run for run in runs if run not in there]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(train, run): run for run in left}
        for future in as_completed(futures):
            run = futures[future]
            try:
                found = future.result()
            except UserError as error:
                print(f"{run} is not for this protocol: {error}", flush=True)
                continue
            if curves:  # before the run, which counts as done when it is in its file
                points = [[step, f"{seconds:.4g}", f"{value:.5g}"] for step, seconds, value in found.curve]
                key = [run.method, run.environment, run.value, run.seed]
                append_rows(curves, CURVES, [[*key, *point] for point in points])
            measured = [f"{getattr(found, name):.5g}" for name in columns[len(run) :]]
            append_rows(file, columns, [[*run, *measured]])
            print(f"{run.method} {run.environment} {run.value:g} seed {run.seed}: {found.score:.1f}", flush=True)


def search(options: argparse.Namespace, steps: int, file: Path) -> None:
    """Run the middle of the grids, then the ends that are wanted; with --quick one value alone."""
    for _ in range(2):
        rows = read_rows(file) if exists(file) else []
        runs = searched(options.methods, options.environments, options.tuning, steps, rows)
        if options.quick:
            runs = [run for run in runs if run.value == METHODS[run.method].grid[2]]
        collect(runs, file, options.jobs, SEARCH)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Which geometry for the actor, by steps and by seconds.")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of every method ({SEEDS})")
    parser.add_argument("--tuning", type=int, default=TUNED, help=f"seeds of the search ({TUNED})")
    parser.add_argument("--methods", default=",".join(METHODS), help="some of the methods, with commas")
    parser.add_argument("--environments", default=",".join(ENVIRONMENTS), help="some of the environments, with commas")
    parser.add_argument("--only", choices=["search", "runs", "cost"], help="one stage, of what is to be done")
    parser.add_argument("--draw", action="store_true", help="only tables and figure of what is there")
    parser.add_argument(
        "--quick", action="store_true", help="Hopper, three updates, one radius and seed; into runs/geometry-quick"
    )
    options = parser.parse_args()
    options.methods, options.environments = options.methods.split(","), options.environments.split(",")
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"there is no method {', '.join(sorted(unknown))}; there are {', '.join(METHODS)}")
    if options.quick:
        options.seeds = options.tuning = 1
        options.environments = options.environments[1:2]
    return options


def main() -> int:
    options = read_options()
    out = Path("runs/geometry-quick") if options.quick else HERE
    results, steps = out / "results", 6144 if options.quick else STEPS
    results.mkdir(parents=True, exist_ok=True)
    methods, stages = options.methods, [] if options.draw else [options.only or "all"]
    if {"all", "search"} & set(stages):
        search(options, steps, results / "search.csv")
    if {"all", "runs"} & set(stages):
        best = report.chosen(read_rows(results / "search.csv"))
        places = [(m, e) for e in options.environments for m in methods if m in best]
        final = [Run(m, e, best[m], seed, steps) for seed in range(options.seeds) for m, e in places]
        collect(final, results / "runs.csv", options.jobs, RUNS, results / "curves.csv")
    if {"all", "cost"} & set(stages):
        cost.collect(methods, cost.SIZES[:1] if options.quick else cost.SIZES, results / "cost.csv")
    found = report.Results.read(results)
    shown = report.page(found)
    print(shown)
    report.draw(found, out)
    if len(found.complete) > 1:
        pairs.write(*found.pairs, results / "pairs.csv")
    if not options.quick and found.rows:
        study.publish(HERE / "README.md", shown)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
