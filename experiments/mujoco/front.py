"""The table of results on the repository's first page: classic control and MuJoCo, as far as they have been run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments._shared import trained
from experiments._shared.data import read_rows
from experiments.classic_control.__main__ import PLAN
from experiments.mujoco.page import finals, of
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


def shown(values: Sequence[float]) -> str:
    """Mean, and its 95% t interval where there are two values or more; in whole numbers."""
    if not values:
        return "-"
    low, high = trained.interval(values) if len(values) > 1 else (0.0, 0.0)
    return f"{sum(values) / len(values):.0f}" + (f" ({low:.0f} to {high:.0f})" if len(values) > 1 else "")


def row(title: str, steps: int, values: Sequence[Sequence[float]]) -> str:
    """One environment: the seeds of each algorithm, where they differ the fewest and the most, and their returns."""
    seeds = sorted({len(found) for found in values if found})
    counts = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"| {title} | {steps:,} | {counts} | {' | '.join(map(shown, values))} |"


def beside(values: Sequence[float], published: float) -> str:
    """A published mean, and the mean of ``values`` in units of it; every published mean here is positive."""
    return f"{published:.0f} ({sum(values) / len(values) / published:.2f})" if values else "-"


def table(cells: Sequence[dict[str, Any]]) -> str:
    """Environments by algorithms, with what must be known to read them."""
    lines = [f"| | steps | seeds | {' | '.join(algo.upper() for algo in ALGOS)} |", f"|{'---|' * (len(ALGOS) + 3)}"]
    runs = read_rows(CLASSIC)
    for env, (title, _, lengths) in PLAN.items():
        found = [trained.evaluations(runs, algo, env) if algo in lengths else [] for algo in ALGOS]
        lines.append(row(title, next(lengths[algo] for algo in ALGOS if algo in lengths), found))
    for task in FIRST:
        found = [finals(of(cells, algo, task)) for algo in ALGOS]
        if any(found):
            lines.append(row(TITLES[task], STEPS, found))
            best = [beside(values, BEST[task][algo][0]) for algo, values in zip(ALGOS, found, strict=True)]
            lines.append(f"| *highest published* | | | {' | '.join(best)} |")
    there = sum(len(of(cells, algo, task)) for algo in ALGOS for task in FIRST)
    planned = sum(len(seeds_of(algo, task)) for algo in ALGOS for task in FIRST)
    about = (
        f"In brackets 95% intervals, where there are two seeds or more. {there} of the {planned} runs planned on "
        "MuJoCo's first four tasks have been made; below them the highest means that others have published, and in "
        "brackets our mean in units of theirs. On Ant observations are without contact forces. [Sources and all "
        "runs](experiments/mujoco/README.md); [classic control](experiments/classic_control/README.md). "
        f"{MADE_BEFORE}"
    )
    figure = "![Training curves of all algorithms on MuJoCo, Tianshou's dotted](experiments/mujoco/curves.png)"
    return "\n".join(
        [*lines, "", *textwrap.wrap(about, 118, break_on_hyphens=False, break_long_words=False), "", figure]
    )
