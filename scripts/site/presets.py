"""A page for each preset: what rlopt.guide.presets says of it, with the results and curves of the experiments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from experiments._shared import trained
from experiments._shared.data import read_rows
from experiments.classic_control.__main__ import PLAN
from experiments.mujoco import page as mujoco_page
from experiments.mujoco import plan, running
from experiments.mujoco.front import CLASSIC, MADE_BEFORE, counted
from rlopt.config.choices import choices
from rlopt.guide import presets

Curves = Mapping[int, tuple[list[float], list[float]]]
LOOK = {
    "svg.fonttype": "none", "svg.hashsalt": "rlopt", "font.size": 9, "text.color": "#808080",
    "axes.edgecolor": "#808080", "axes.labelcolor": "#808080", "xtick.color": "#808080", "ytick.color": "#808080",
}  # fmt: skip  # greys that can be read on white and on black


def classic_control(preset: str) -> tuple[list[str], dict[str, tuple[int, Curves]]]:
    """Rows of the table, and environment -> last step and curves."""
    rows, points = read_rows(CLASSIC), read_rows(CLASSIC.with_name("curves.csv"))
    lines, curves = [], {}
    for env, (title, _, lengths) in PLAN.items():
        values = trained.evaluations(rows, preset, env)
        if preset in lengths and values:
            shown = f"{trained.mean_with_interval(values)} | {min(values):.4g}"
            lines.append(f"| {title} | {lengths[preset]:,} | {len(values)} | {shown} |")
            curves[title] = (lengths[preset], trained.curves(points, preset, env))
    return lines, curves


def mujoco(preset: str) -> tuple[list[str], dict[str, tuple[int, Curves]]]:
    """The same of MuJoCo's tasks."""
    rows: list[dict[str, Any]] = running.load(Path(running.__file__).parent / "results", "cells", plan.cells())
    lines, curves = [], {}
    for task in plan.TASKS:
        if cell := mujoco_page.of(rows, preset, task):
            values = mujoco_page.finals(cell)
            shown = f"{mujoco_page.with_interval(values, 'mean')} | {min(values):.4g}"
            lines.append(f"| {plan.TITLES[task]} | {plan.STEPS:,} | {len(values)} | {shown} |")
            found = {row["seed"]: tuple(map(list, zip(*row["curve"], strict=True))) for row in cell if row["curve"]}
            curves[plan.TITLES[task]] = (plan.STEPS, found)
    return lines, curves


def draw(curves: Mapping[str, tuple[int, Curves]], target: Path) -> None:
    """One panel for each environment: mean over seeds, with its 95% interval where there are two or more."""
    with plt.rc_context(LOOK):
        columns = min(2, len(curves))
        lines = -(-len(curves) // columns)
        size = (3.4 * columns, 2.3 * lines)
        figure, axes = plt.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
        for axis in axes.flat[len(curves) :]:
            axis.axis("off")
        for axis, (title, (end, found)) in zip(axes.flat, curves.items(), strict=False):
            trained.band(axis, dict(found), end, counted(len(found)), color="#3d85c6")
            axis.set(title=f"{title}, {counted(len(found))}", xlabel="thousand steps", ylabel="training return")
            axis.spines[["top", "right"]].set_visible(False)
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, transparent=True, metadata={"Date": None})
        plt.close(figure)


def results(preset: str, folder: Path) -> list[str]:
    """The part of the page that the experiments make."""
    classic_rows, curves = classic_control(preset)
    mujoco_rows, more = mujoco(preset)
    if not classic_rows and not mujoco_rows:
        return ["## Results", "", "None yet on the tasks of experiments/classic_control and experiments/mujoco.", ""]
    draw({**curves, **more}, folder / f"{preset}.svg")
    about = f"Final policies, return of the mode over 100 episodes. {MADE_BEFORE if classic_rows else ''}".rstrip()
    return [
        "## Results", "", about, "", "| | steps | seeds | mean (95% interval) | lowest |", "|---|---|---|---|---|",
        *classic_rows, *mujoco_rows, "", f"![Training curves]({preset}.svg)", "",
    ]  # fmt: skip


def pages(folder: Path) -> dict[str, str]:
    """Preset -> its page as Markdown; the curves go into ``folder``."""
    found = {}
    for preset in choices("algo"):
        found[preset] = "\n".join([presets.page(preset), *results(preset, folder)])
    return found
