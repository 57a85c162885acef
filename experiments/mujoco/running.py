"""Runs in processes of their own, one a core; each leaves one small JSON file, and none that has one is made again.

| key | is |
|---|---|
| algo, task, name, seed | which run |
| settings | steps, options typed and the recipe's; the run is made again where these are others now |
| deterministic, sampled | mean and standard deviation of the return over 100 episodes of the final policy |
| curve | at most 50 points: step, mean training return of the episodes that ended since the point before |
| skipped | steps not taken because a number was not finite |
| processor_seconds | of the whole process, with its start and the 200 episodes of evaluation |

A run's folder, with its checkpoint, stays in runs/mujoco, and its policy in results/policies (zoo.py).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments._shared.data import write_json
from experiments._shared.study import rounded
from experiments.mujoco.plan import ZOO, Job
from rlopt.checkpoint.zoo import keep
from rlopt.errors import UserError

POINTS = 50


def result_of(job: Job, results: Path) -> Path:
    return results / job.kind / f"{job.label}.json"


def is_done(job: Job, results: Path) -> bool:
    """True where the run's result is there and was made with today's settings."""
    path = result_of(job, results)
    return path.exists() and json.loads(path.read_text())["settings"] == job.settings


def collect(jobs: Sequence[Job], results: Path, folder: Path, processes: int, extra: Sequence[str] = ()) -> int:
    """Make the runs that are not done, ``processes`` at a time; how many failed. ``extra`` options go to all."""
    left = [job for job in jobs if not is_done(job, results)]
    print(f"{len(jobs) - len(left)} runs are done, {len(left)} are left, {processes} at a time", flush=True)
    running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
    failed = 0
    try:
        while left or running:
            while left and len(running) < processes:
                process = start(job := left.pop(0), folder, extra)
                running[process.pid] = job, process
            pid, status, usage = os.wait3(0)
            if pid not in running:
                continue
            job, process = running.pop(pid)
            process.returncode = os.waitstatus_to_exitcode(status)  # so that nothing waits for it again
            failed += not finish(job, process.returncode, usage.ru_utime + usage.ru_stime, results, folder)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGTERM)
    return failed


def log_of(run_dir: Path) -> Path:
    """What a run prints, beside its folder, whose name may have points."""
    return run_dir.with_name(f"{run_dir.name}.log")


def start(job: Job, folder: Path, extra: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Begin the run, in an empty folder."""
    run_dir = folder / job.kind / job.label
    shutil.rmtree(run_dir, ignore_errors=True)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "rlopt", "train", f"algo={job.algo}", f"env={job.task}", f"seed={job.seed}",
               f"total_steps={job.steps}", "workers=1", "record.tensorboard=false", "checkpoint.keep=1",
               f"run_dir={run_dir}", *job.overrides, *extra]  # fmt: skip
    with log_of(run_dir).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(job: Job, status: int, seconds: float, results: Path, folder: Path) -> bool:
    """Write the run's result; False where it failed."""
    run_dir = folder / job.kind / job.label
    if status:
        print(f"FAILED {job.label}, exit code {status}: see {log_of(run_dir)}", flush=True)
        return False
    found = outcome(job, run_dir, seconds)
    path = result_of(job, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, rounded(found))
    keep_policy(job, run_dir, results)
    print(f"{job.label}: {found['deterministic']['mean']:.1f}, {seconds:.0f} processor seconds", flush=True)
    return True


def kept(job: Job, results: Path) -> Path:
    """The folder of a run's policy."""
    return results / "policies" / job.label


def keep_policy(job: Job, run_dir: Path, results: Path) -> None:
    """Keep the policy of a cell's finished run."""
    if job.kind == "cells" and job.algo in ZOO:
        try:
            keep(run_dir, kept(job, results))
        except UserError as error:
            print(f"{job.label}: its policy is not kept, {error}", flush=True)


def outcome(job: Job, run_dir: Path, seconds: float) -> dict[str, Any]:
    """What a finished run's folder says, see the module's table."""
    from rlopt.loggers.csv import read

    summary = json.loads((run_dir / "summary.json").read_text())
    scalars = read(run_dir / "scalars.csv", ["episode/return", "update/skipped"])
    evaluated = {"deterministic": "evaluation", "sampled": "sampled_evaluation"}
    return {
        "algo": job.algo,
        "task": job.task,
        "name": job.name,
        "seed": job.seed,
        "settings": job.settings,
        **{
            kind: {"mean": summary[f"{name}_return"], "std": summary[f"{name}_std"]} for kind, name in evaluated.items()
        },
        "curve": thinned(scalars.get("episode/return", []), summary["steps"]),
        "skipped": int(scalars["update/skipped"][-1][1]),
        "processor_seconds": seconds,
    }


def thinned(points: Sequence[tuple[float, float]], end: float) -> list[list[float]]:
    """Means over POINTS windows of equal length, each at its last point's step; windows without any are left out."""
    windows: dict[int, list[tuple[float, float]]] = {}
    for step, value in points:
        windows.setdefault(min(int(step * POINTS / end), POINTS - 1), []).append((step, value))
    return [[int(part[-1][0]), sum(value for _, value in part) / len(part)] for part in windows.values()]


def load(results: Path, kind: str, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The results of those jobs of a kind that are done."""
    return [json.loads(result_of(job, results).read_text()) for job in jobs
            if job.kind == kind and is_done(job, results)]  # fmt: skip


def everything(results: Path, kind: str) -> list[dict[str, Any]]:
    """All results of a kind, whatever the settings are now."""
    return [json.loads(path.read_text()) for path in sorted((results / kind).glob("*.json"))]
