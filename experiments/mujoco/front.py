"""The table of results on the repository's first page: classic control and MuJoCo, as far as they have been run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments._shared import trained
from experiments._shared.data import read_rows
from experiments.classic_control.__main__ import PLAN
from experiments.mujoco.page import finals, of, with_interval
from experiments.mujoco.plan import FIRST, STEPS, TITLES, seeds_of
from experiments.mujoco.published import BEST

CLASSIC = Path(__file__).parents[1] / "classic_control/results/runs.csv"
ALGOS = ("ppo", "trpo", "acktr", "npg")
MADE_BEFORE = (
    "The rows of classic control were made before rewards and observations were normalised as they are now, and are to "
    "be made again."
)


def counted(seeds: int) -> str:
    return f"{seeds} seed{'s' * (seeds != 1)}"


def classic(rows: Sequence[dict[str, str]], algo: str, env: str) -> str:
    """Mean with its 95% t interval, and the seeds."""
    values = trained.evaluations(rows, algo, env)
    return f"{trained.mean_with_interval(values)}, {counted(len(values))}" if values else "-"


def mujoco(rows: Sequence[dict[str, Any]], algo: str, task: str) -> str:
    """Mean, its interval where there are two seeds, the seeds, and the highest published mean."""
    cell = of(rows, algo, task)
    if not cell:
        return "-"
    return f"{with_interval(finals(cell), 'mean')}, {counted(len(cell))}; {BEST[task][algo][0]:g}"


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Environments by algorithms, with what must be known to read them."""
    lines = [f"| | steps | {' | '.join(algo.upper() for algo in ALGOS)} |", f"|{'---|' * (len(ALGOS) + 2)}"]
    runs = read_rows(CLASSIC)
    for env, (title, _, lengths) in PLAN.items():
        shown = [classic(runs, algo, env) if algo in lengths else "-" for algo in ALGOS]
        steps = next(iter({lengths[algo] for algo in ALGOS if algo in lengths}))
        lines.append(f"| {title} | {steps:,} | {' | '.join(shown)} |")
    for task in FIRST:
        if any(of(cells, algo, task) for algo in ALGOS):
            shown = [mujoco(cells, algo, task) for algo in ALGOS]
            lines.append(f"| {TITLES[task]} | {STEPS:,} | {' | '.join(shown)} |")
    there = sum(len(of(cells, algo, task)) for algo in ALGOS for task in FIRST)
    planned = sum(len(seeds_of(algo, task)) for algo in ALGOS for task in FIRST)
    about = (
        f"In brackets 95% intervals, where there are two seeds or more. Of {planned} runs planned on MuJoCo's first "
        f"{len(FIRST)} tasks {there} have been made; behind the semicolon is the highest mean that others have "
        f"published. [Sources and all runs](experiments/mujoco/README.md); "
        f"[classic control](experiments/classic_control/README.md). {MADE_BEFORE}"
    )
    return "\n".join([*lines, "", *textwrap.wrap(about, 118, break_on_hyphens=False)])
