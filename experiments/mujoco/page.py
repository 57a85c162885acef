"""The page's tables and figure, from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from experiments._shared import style, trained
from experiments.mujoco.plan import ABLATION_SEEDS, ALGOS, CHOICES, STEPS, TASKS, TITLES
from experiments.mujoco.published import BEST, SOURCES, tianshou
from rlopt.report.statistics import Centre, estimate

Row = dict[str, Any]
CENTRES: tuple[Centre, ...] = ("mean", "iqm")


def between(page: Path, mark: str, shown: str) -> None:
    """Write this between the page's lines <!-- MARK --> and <!-- end of MARK -->, in place of what stands there."""
    first, last = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, _, rest = page.read_text().partition(first)
    after = rest.partition(last)[2]
    page.write_text(f"{before}{first}\n{shown}\n\n{last}{after}")


def of(rows: Sequence[Row], algo: str, task: str, name: str = "") -> list[Row]:
    """The results of one cell, by seed."""
    found = [row for row in rows if (row["algo"], row["task"], row["name"]) == (algo, task, name)]
    return sorted(found, key=lambda row: row["seed"])


def finals(rows: Sequence[Row], kind: str = "deterministic") -> list[float]:
    return [row[kind]["mean"] for row in rows]


def area(curve: Sequence[Sequence[float]], end: float = STEPS) -> float:
    """The mean over steps of a training curve that is joined by straight lines, and constant before its first point."""
    steps, values = (np.array(column) for column in zip(*curve, strict=True))
    return float(np.interp(np.linspace(0, end, 1001), steps, values).mean())


def reached(curve: Sequence[Sequence[float]], value: float) -> float | None:
    """The step of the first point that is at ``value`` or above; None if none is."""
    return next((step for step, at in curve if at >= value), None)


def with_interval(values: Sequence[float], centre: Centre) -> str:
    """The centre and its 95% t interval, which two values or more have."""
    found = estimate(np.array(values), centre, "t")
    shown = f"{found.value:.4g}"
    return shown if np.isnan(found.low) else f"{shown} ({found.low:.4g} to {found.high:.4g})"


def returns_table(rows: Sequence[Row]) -> str:
    """Final returns beside the published ones."""
    lines = ["| environment | algo | mean (95%) | IQM (95%) | sampled | published | mean / published | each seed |",
             "|---|---|---|---|---:|---:|---:|---|"]  # fmt: skip
    for task in TASKS:
        for algo in ALGOS:
            if not (cell := of(rows, algo, task)):
                continue
            values = finals(cell)
            best, source = BEST[task][algo]
            ratio = f"{np.mean(values) / best:.2f}" if best > 0 else ""
            each = ", ".join(f"{value:.4g}" for value in values)
            centres = " | ".join(with_interval(values, centre) for centre in CENTRES)
            sampled = np.mean(finals(cell, "sampled"))
            lines.append(
                f"| {TITLES[task]} | {algo} | {centres} | {sampled:.4g} | {best:g} {source} | {ratio} | {each} |"
            )
    return "\n".join(lines)


def learning_table(rows: Sequence[Row]) -> str:
    """How fast: areas, steps to the published mean, processor time."""
    lines = ["| environment | algo | area (95%) | Tianshou's area | steps to the published mean | seconds | skipped |",
             "|---|---|---|---:|---|---:|---:|"]  # fmt: skip
    for task in TASKS:
        for algo in ALGOS:
            if not (cell := [row for row in of(rows, algo, task) if row["curve"]]):
                continue
            areas = [area(row["curve"], row["settings"]["steps"]) for row in cell]
            theirs = tianshou(algo, task)
            other = f"{area(list(zip(*theirs, strict=True))):.4g}" if theirs[0] else ""
            seconds, skipped = np.mean([r["processor_seconds"] for r in cell]), sum(r["skipped"] for r in cell)
            lines.append(f"| {TITLES[task]} | {algo} | {with_interval(areas, 'mean')} | {other} "
                         f"| {steps_to(cell, BEST[task][algo][0])} | {seconds:.0f} | {skipped} |")  # fmt: skip
    return "\n".join(lines)


def steps_to(cell: Sequence[Row], value: float) -> str:
    """The mean step at which those seeds that did reached ``value``, and how many did."""
    found = [step for row in cell if (step := reached(row["curve"], value)) is not None]
    return f"{np.mean(found):,.0f} ({len(found)} of {len(cell)})" if found else f"(0 of {len(cell)})"


def sources() -> str:
    return "\n".join(f"- **{key}**: {text}." for key, text in SOURCES.items())


def ablations_table(rows: Sequence[Row]) -> str:
    """Every choice against the algorithm's preset on the same seeds."""
    lines = ["| choice | algo | environment | seeds | preset | with it | difference (95%) | of the areas (95%) |",
             "|---|---|---|---:|---:|---:|---|---|"]  # fmt: skip
    for choice in CHOICES:
        for task in choice.tasks if choice.overrides else ():
            own, usual = (of(rows, choice.algo, task, name) for name in (choice.name, "preset"))
            if not own or not usual:
                continue
            areas = [[area(row["curve"], row["settings"]["steps"]) for row in cell] for cell in (own, usual)]
            cells = [difference(finals(own), finals(usual)), difference(*areas)]
            means = " | ".join(f"{np.mean(finals(cell)):.4g}" for cell in (usual, own))
            lines.append(
                f"| {choice.name} | {choice.algo} | {TITLES[task]} | {len(own)} | {means} | {' | '.join(cells)} |"
            )
    return "\n".join(lines)


def tuning_table(rows: Sequence[Row]) -> str:
    """Every setting that was tried, by environment and algorithm, with the recipe that it was tried on."""
    lines = ["| environment | algo | options | recipe then | mean | each seed |", "|---|---|---|---|---:|---|"]
    for task in TASKS:
        for algo in ALGOS:
            cell = [row for row in rows if (row["task"], row["algo"]) == (task, algo)]
            settings = {(row["name"], _typed(row["settings"]["recipe"]), row["settings"]["steps"]) for row in cell}
            for name, recipe, steps in sorted(settings):
                own = [row for row in of(cell, algo, task, name)
                       if (_typed(row["settings"]["recipe"]), row["settings"]["steps"]) == (recipe, steps)]  # fmt: skip
                length = "" if steps == STEPS else f" ({steps:,} steps)"
                each = ", ".join(f"{row['deterministic']['mean']:.4g} ({row['seed']})" for row in own)
                mean = f"{np.mean(finals(own)):.4g}"
                lines.append(f"| {TITLES[task]} | {algo} | {name}{length} | {recipe or '-'} | {mean} | {each} |")
    return "\n".join(lines)


def _typed(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={str(value).lower()}" for name, value in options.items())


def difference(a: Sequence[float], b: Sequence[float]) -> str:
    """mean(a) - mean(b) with Welch's 95% interval, which two values or more of each have."""
    shown = f"{np.mean(a) - np.mean(b):+.4g}"
    if min(len(a), len(b)) < 2:
        return shown
    parts = [np.var(x, ddof=1) / len(x) for x in (a, b)]
    freedom = (
        sum(parts) ** 2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True)) if sum(parts) else 1
    )
    half = stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts))
    return f"{shown} ({np.mean(a) - np.mean(b) - half:+.4g} to {np.mean(a) - np.mean(b) + half:+.4g})"


def draw(rows: Sequence[Row], picture: Path) -> None:
    """Training curves: means over seeds with 95% intervals, and Tianshou's means, dotted."""
    shown = [task for task in TASKS if any(row["task"] == task for row in rows)]
    columns = min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.6 * columns, 2.9 * lines), layout="constrained", squeeze=False
    )
    for axis in axes.flat[len(shown) :]:
        axis.axis("off")
    for axis, task in zip(axes.flat, shown, strict=False):
        for algo, (color, line) in zip(ALGOS, style.CURVES, strict=False):
            cell = [row for row in of(rows, algo, task) if row["curve"]]
            if not cell:
                continue
            found = {row["seed"]: tuple(zip(*row["curve"], strict=True)) for row in cell}
            end = cell[0]["settings"]["steps"]
            trained.band(
                axis, found, end, f"{algo}, {len(cell)} seed{'s' * (len(cell) > 1)}", color=color, linestyle=line
            )  # type: ignore[arg-type]
            steps, values = tianshou(algo, task)
            axis.plot(np.array(steps) / 1000, values, color=color, linewidth=0.7, linestyle=(0, (1, 2)))
        axis.set(title=TITLES[task], xlabel="thousand environment steps", ylabel="training episode return")
        axis.set_xlim(0, max(row["settings"]["steps"] for row in rows) / 1000)
        axis.legend(frameon=False, fontsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=100)


def publish(cells: Sequence[Row], ablated: Sequence[Row], tried: Sequence[Row], page: Path) -> None:
    """The figure and all tables, into ``page`` and beside it."""
    if cells:
        draw(cells, page.with_name("curves.png"))
        between(page, "returns", f"![Training curves](curves.png)\n\n{returns_table(cells)}\n\n{sources()}")
        between(page, "learning", learning_table(cells))
    if ablated:
        between(page, "ablations", f"Seeds {ABLATION_SEEDS[0]} to {ABLATION_SEEDS[-1]}.\n\n{ablations_table(ablated)}")
    if tried:
        between(page, "tuning", f"{len(tried)} runs; seeds in brackets.\n\n{tuning_table(tried)}")
