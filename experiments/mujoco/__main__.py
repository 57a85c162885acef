"""Results on MuJoCo: scripts/reproduce mujoco [--only ALGO TASK] [--seeds 0-4] [--processes N] [--ablations] [--draw]

Trains every cell of the table that has no result yet, then writes the page's tables and curves.png from results/.
--policies brings policies/, which `rlopt zoo` lists, up to date with results/.
--ablations trains single choices against presets, --try OPTIONS other settings on the seeds kept for tuning.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from experiments.mujoco import front, page, plan, running, zoo

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
QUICK = 6_000  # steps
QUICK_OPTIONS = ("evaluation.episodes=2",)


def seeds(text: str) -> list[int]:
    """0-3,7 -> 0, 1, 2, 3, 7."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description="Every algorithm on MuJoCo's tasks, beside published results.")
    made.add_argument("--only", nargs=2, action="append", default=[], metavar=("ALGO", "TASK"),
                      help="these alone, such as trpo hopper, all hopper, trpo all; may be repeated")  # fmt: skip
    made.add_argument("--seeds", type=seeds, default=None, help="of the planned seeds these alone, such as 0-4,7")
    made.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time (one a core)")
    made.add_argument("--steps", type=int, default=None, help="of a run (1,000,000; 500,000 of --ablations)")
    made.add_argument("--ablations", action="store_true", help="single choices against presets")
    made.add_argument("--try", dest="typed", default=None, help="options to try, with --only ALGO TASK")
    made.add_argument("--list", action="store_true", help="print the runs that are left, and stop")
    made.add_argument("--draw", action="store_true", help="only the page, from results/")
    made.add_argument("--policies", action="store_true",
                      help="only policies/: the best of each cell, trained again where it was not kept")  # fmt: skip
    made.add_argument("--quick", action="store_true", help="seed 0 of ppo and trpo on Hopper, into runs/mujoco-quick")
    return made


def planned(options: argparse.Namespace) -> list[plan.Job]:
    """The jobs that the options ask for."""
    steps = {} if options.steps is None else {"steps": options.steps}
    only = [tuple(pair) for pair in options.only]
    if options.typed is not None:
        return list(plan.wanted(plan.tries(options.typed, only, **steps), (), options.seeds or plan.TUNING[:3]))
    if options.quick:
        only, options.seeds, steps = [("ppo", "hopper"), ("trpo", "hopper")], [0], {"steps": options.steps or QUICK}
    jobs = plan.ablations(**steps) if options.ablations else plan.cells(**steps)
    return list(plan.wanted(jobs, only, options.seeds))


def main() -> int:
    made = parser()
    options = made.parse_args()
    if options.typed is not None and not options.only:
        made.error("--try needs --only ALGO TASK")
    known = {"all", *plan.ALGOS}, {"all", *plan.TASKS}
    for pair in options.only:
        for name, names in zip(pair, known, strict=True):
            if name not in names:
                made.error(f"--only {' '.join(pair)}: {name} is none of {', '.join(sorted(names))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the runs end too
    jobs = planned(options)
    results, folder = HERE / "results", ROOT / "runs/mujoco"
    if options.quick:
        folder = ROOT / "runs/mujoco-quick"
        results = folder / "results"
    if options.list:
        print(*(job.label for job in jobs if not running.is_done(job, results)), sep="\n")
        return 0
    failed, extra = 0, QUICK_OPTIONS if options.quick else ()
    if options.policies:
        target = folder / "policies" if options.quick else HERE / "policies"
        return 1 if zoo.publish(jobs, results, folder, target, options.processes, extra) else 0
    if not options.draw:
        failed = running.collect(jobs, results, folder, options.processes, extra)
    show(jobs, results, folder, options)
    return 1 if failed else 0


def show(jobs: list[plan.Job], results: Path, folder: Path, options: argparse.Namespace) -> None:
    """The page, from all results that are there; of tries what they came to."""
    if options.typed is not None:
        for row in running.load(results, "search", jobs):
            print(f"{row['algo']} {row['task']} {row['seed']} {row['name']}: {row['deterministic']['mean']:.4g}")
        return
    target = HERE / "README.md"
    if options.quick:
        target = Path(shutil.copy(target, folder / "README.md"))
        cells, ablated = running.load(results, "cells", jobs), running.load(results, "ablations", jobs)
    elif options.steps is not None:  # results of another length are no part of the page
        return
    else:
        cells = running.load(results, "cells", plan.cells())
        ablated = running.load(results, "ablations", plan.ablations())
    page.publish(cells, ablated, running.everything(results, "search"), target)
    if target == HERE / "README.md":
        page.between(ROOT / "README.md", "results", front.table(cells))
    if cells:
        print(page.returns_table(cells))
    if ablated:
        print(page.ablations_table(ablated))


if __name__ == "__main__":
    raise SystemExit(main())
