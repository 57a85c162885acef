"""The best policy of each cell, by the mode's return, in policies/ALGO-TASK, with its figures and a card.

Every run of these algorithms (plan.ZOO) leaves its policy in results/policies, which git does not see. Where that of a
best run is not there, such as of one made on another machine, it is taken from the run's folder, or the run is made
again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments._shared.study import rounded
from experiments.mujoco import page, running
from experiments.mujoco.plan import TASKS, ZOO, Job
from experiments.mujoco.running import kept
from rlopt.checkpoint import zoo
from rlopt.cli.card import card
from rlopt.config import read_config
from rlopt.config.saved import load_run, to_yaml

LARGEST = 6_000_000  # bytes of all policies together


def best(jobs: Sequence[Job], results: Path) -> Iterator[tuple[Job, list[dict[str, Any]]]]:
    """For each cell with results the job with the highest return of the mode, and the cell's results."""
    for algo in ZOO:
        for task in TASKS:
            cell = [job for job in jobs if (job.kind, job.algo, job.task) == ("cells", algo, task)]
            if rows := running.load(results, "cells", cell):
                first = max(rows, key=lambda row: row["deterministic"]["mean"])["seed"]
                yield next(job for job in cell if job.seed == first), rows


def publish(jobs: Sequence[Job], results: Path, folder: Path, target: Path, processes: int,
            extra: Sequence[str] = ()) -> int:  # fmt: skip
    """Bring the policies in ``target`` up to date with the results; how many best policies cannot be had.

    ``folder`` has the runs' folders. Runs that are made again leave theirs, and their results, in folder/again.
    """
    again = folder / "again"
    chosen = list(best(jobs, results))
    lacking = [job for job, rows in chosen if _source(job, rows, results, folder, target) is None]
    if lacking:
        running.collect(lacking, again / "results", again, processes, extra)
    failed = 0
    for job, rows in chosen:
        source = _source(job, rows, results, folder, target)
        if source is None:
            print(f"the policy of {job.label} cannot be had", flush=True)
            failed += 1
        else:
            _put(job, rows, source, target / f"{job.algo}-{job.task}", extra)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"policies: {len(chosen) - failed} of {len(chosen)}, {size / 1e6:.2f} MB of at most {LARGEST / 1e6:g}")
    return failed + (size > LARGEST)


def _source(job: Job, rows: Sequence[Mapping[str, Any]], results: Path, folder: Path, target: Path) -> Path | None:
    """A folder with the policy of this run; None where there is none."""
    expected = next(row for row in rows if row["seed"] == job.seed)["deterministic"]["mean"]
    for place in (target / f"{job.algo}-{job.task}", kept(job, results), folder / job.kind / job.label):
        found = _summary(place)
        if found.get("seed") == job.seed and expected in (rounded(found["evaluation_return"]), found.get("result")):
            return place
    again = folder / "again/results"  # on another machine the figure may be another one
    return kept(job, again) if running.is_done(job, again) and _summary(kept(job, again)) else None


def _summary(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "summary.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _put(job: Job, rows: Sequence[Mapping[str, Any]], source: Path, target: Path, extra: Sequence[str]) -> None:
    """The policy, with today's form of its configuration, and its card."""
    typed = [f"algo={job.algo}", f"env={job.task}", f"seed={job.seed}", f"total_steps={job.steps}", *job.overrides]
    found = load_run(source, needs_environment=False)
    config = {**_within(dict(read_config([*typed, *extra]).plain), found), "run_dir": None}
    returns = page.finals(rows)
    result = next(row for row in rows if row["seed"] == job.seed)["deterministic"]["mean"]
    chosen = {"seeds": len(rows), "mean": rounded(sum(returns) / len(returns))}
    text = _card(target.name, _summary(source), config, returns)
    if source == target and found == config and (target / "README.md").read_text() == text:
        return
    unfinished = target.with_name(f".{target.name}")
    zoo.keep(source, unfinished, config=config, result=result, chosen_of=chosen)
    (unfinished / "README.md").write_text(text)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def _within(now: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    """The options that there are now, with the values that they had then where there were such."""
    return {
        name: _within(value, then[name]) if isinstance(value, dict) and isinstance(then.get(name), dict) and value
        else then.get(name, value)
        for name, value in now.items()
    }  # fmt: skip


def _card(name: str, summary: Mapping[str, Any], config: Mapping[str, Any], returns: Sequence[float]) -> str:
    """The text of `rlopt card`, with how the policy was chosen and how it is loaded."""
    mean = page.with_interval(returns, "mean")
    of = "Of one seed." if len(returns) == 1 else (
        f"The best of {len(returns)} seeds by the first of these returns, whose mean over the seeds is {mean}."
    )  # fmt: skip
    text = card(summary, to_yaml(config)).replace('rlopt.load("RUN_DIR")  # this folder', f'rlopt.load("zoo:{name}")')
    return text.replace("\n## Use\n", f"\n{of}\n\n## Use\n", 1)
