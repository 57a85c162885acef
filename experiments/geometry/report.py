"""Tables and figure of what results/ holds.

The score of a run is its mean return in the last tenth of its steps. By seconds it is the mean return in the last tenth
of a time that all methods have: that in which the quickest of them makes all of its steps on that environment with that
seed. So different seeds may be run on different machines, but not those of one seed on an environment.
Environments are pooled by scores between 0, the mean return of the first points, and 1, the highest.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments._shared import style
from experiments._shared.data import exists, read_rows
from experiments.geometry import cost, pairs
from experiments.geometry.training import LAST, METHODS
from rlopt.report.statistics import Array, Estimate, estimate, pooled

Row = dict[str, str]
Curve = tuple[Array, Array, Array]  # steps, seconds, returns


@dataclass(frozen=True)
class Results:
    """What was measured; runs with another radius than the search now chooses are left out.

    Of a run that stands there twice, as after an interruption, the last counts.
    """

    rows: list[Row]
    curves: dict[tuple[str, str, int], Curve]  # method, environment, seed
    costs: list[Row]
    search: list[Row]

    @classmethod
    def read(cls, folder: Path) -> Results:
        search, runs, curves, costs = (_rows(folder / f"{name}.csv") for name in ("search", "runs", "curves", "cost"))
        best = chosen(search)
        rows = {key(row): row for row in runs if _is_of(best, row)}
        points: dict[tuple[str, str, int], dict[float, tuple[float, float, float]]] = {}
        for row in curves:
            if _is_of(best, row):
                step, seconds, value = (float(row[name]) for name in ("step", "seconds", "return"))
                points.setdefault(key(row), {})[step] = step, seconds, value
        found = {key: tuple(np.array(sorted(each.values())).T) for key, each in points.items() if key in rows}
        return cls(list(rows.values()), found, costs, search)  # type: ignore[arg-type]

    @property
    def environments(self) -> list[str]:
        return list(dict.fromkeys(row["environment"] for row in self.rows))

    @property
    def methods(self) -> list[str]:
        there = {row["method"] for row in self.rows}
        return [name for name in METHODS if name in there]

    @property
    def complete(self) -> list[str]:
        """Methods with at least two seeds on every environment."""
        return [m for m in self.methods if all(len(self.of(m, e)) > 1 for e in self.environments)]

    @cached_property
    def by_steps(self) -> dict[str, list[Array]]:
        return {method: self.strata(method, in_time=False) for method in self.complete}

    @cached_property
    def by_seconds(self) -> dict[str, list[Array]]:
        return {method: self.strata(method, in_time=True) for method in self.complete}

    @cached_property
    def pairs(self) -> tuple[list[pairs.Pair], list[pairs.Pair]]:
        """All pairs of complete methods, by steps and by seconds."""
        return pairs.compared(self.by_steps), pairs.compared(self.by_seconds)

    def of(self, method: str, environment: str) -> list[Row]:
        return [row for row in self.rows if (row["method"], row["environment"]) == (method, environment)]

    def scores(self, method: str, environment: str) -> Array:
        return np.array([float(row["score"]) for row in self.of(method, environment)])

    def budget(self, environment: str, seed: int) -> float:
        """Processor seconds in which the quickest method makes all of its steps."""
        return min(float(row["seconds"]) for row in self.rows if key(row)[1:] == (environment, seed))

    def scores_in_time(self, method: str, environment: str) -> Array:
        """By seed: the mean return of the last tenth of the budget, of the curve joined by straight lines."""
        found = []
        for row in self.of(method, environment):
            end = self.budget(environment, int(row["seed"]))
            _, seconds, returns = self.curves[method, environment, int(row["seed"])]
            found.append(float(np.interp(np.linspace((1 - LAST) * end, end, 20), seconds, returns).mean()))
        return np.array(found)

    def range(self, environment: str) -> tuple[float, float]:
        """The mean return of all first points, and the highest score."""
        first = [curve[2][0] for (_, e, _), curve in self.curves.items() if e == environment]
        every = np.concatenate([self.scores(method, environment) for method in self.methods])
        low = min(float(np.mean(first)), float(every.max()) - 1e-9)
        return low, float(every.max())

    def strata(self, method: str, in_time: bool) -> list[Array]:
        """The method's normalised scores, by environment."""
        found = []
        for environment in self.environments:
            low, high = self.range(environment)
            scores = (self.scores_in_time if in_time else self.scores)(method, environment)
            found.append((scores - low) / (high - low))
        return found


def _is_of(best: dict[str, float], row: Row) -> bool:
    """Whether a run, or a point of one, has the chosen radius or rate."""
    return best.get(row["method"]) == float(row["value"])


def key(row: Row) -> tuple[str, str, int]:
    """Method, environment and seed."""
    return row["method"], row["environment"], int(row["seed"])


def chosen(rows: Sequence[Row]) -> dict[str, float]:
    """method -> the value with the highest mean score over environments and tuning seeds; the smaller one in a tie.

    A method counts when all of its values have been run equally often.
    """
    return {
        method: max(sorted(values), key=lambda v: statistics.fmean(values[v]))
        for method, values in searched(rows).items()
        if len({len(each) for each in values.values()}) == 1
    }


def searched(rows: Sequence[Row]) -> dict[str, dict[float, list[float]]]:
    """method -> value -> scores, divided by the largest of any run on the same environment, without signs."""
    largest: dict[str, float] = {}
    for row in rows:
        largest[row["environment"]] = max(largest.get(row["environment"], 1e-9), abs(float(row["score"])))
    scores: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        of_method = scores.setdefault(row["method"], {})
        of_method.setdefault(float(row["value"]), []).append(float(row["score"]) / largest[row["environment"]])
    return scores


def page(found: Results) -> str:
    """All tables, as Markdown."""
    if not found.rows:
        return "Not run yet."
    seeds = sorted({len(found.of(m, e)) for m in found.methods for e in found.environments})
    residual = np.mean([float(row["residual"]) for row in found.rows])
    head = f"{seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} seeds of every method and environment."
    head += (
        f" Waste is measured with a natural gradient n of residual |g - F n| = {residual:.2f} |g| in the mean of runs."
    )
    parts = [
        f"![The same as the tables, by environment](scores.png)\n\n{head}",
        *(_by_environment(found, e) for e in found.environments),
    ]
    if len(found.complete) > 1:
        titles = {method: METHODS[method].title for method in found.complete}
        picture = "![The probability of improvement of every pair](pairs.png)"
        told_of = "Colour: the test confirms it. Black: the interval leaves out 1/2. [All of them](results/pairs.csv)."
        parts += [_pooled(found, found.complete), pairs.table(*found.pairs, titles), picture, told_of]
    if found.search:
        parts.append(_search(found.search))
    if found.costs:
        parts.append(_costs(found.costs))
    return "\n\n".join(parts)


def _by_environment(found: Results, environment: str) -> str:
    seeds = {int(row["seed"]) for row in found.rows if row["environment"] == environment}
    common = np.mean([found.budget(environment, seed) for seed in seeds])
    lines = [
        f"**{environment}**, {common:.0f} s in common",
        "",
        "| method | radius or rate | IQM by steps (95%) | IQM by seconds (95%) | KL, nats | waste | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in found.methods:
        if rows := found.of(method, environment):
            by_steps = told(estimate(found.scores(method, environment), "iqm", "bootstrap"))
            in_time = told(estimate(found.scores_in_time(method, environment), "iqm", "bootstrap"))
            kl, waste, seconds = (np.mean([float(row[name]) for row in rows]) for name in ("kl", "waste", "seconds"))
            value = float(rows[0]["value"])
            ends = METHODS[method].grid[0], METHODS[method].grid[-1]
            shown = f"{value:g}{' (end of the grid)' if value in ends else ''}"
            told_of = METHODS[method].title, shown, by_steps, in_time, f"{kl:.3g}", f"{waste:.2f}", f"{seconds:.0f}"
            lines.append(f"| {' | '.join(told_of)} |")
    return "\n".join(lines)


def _pooled(found: Results, methods: list[str]) -> str:
    lines = ["**All environments**, scores between 0, the mean of the first points, and 1, the best run by steps", "",
             "| method | IQM by steps (95%) | IQM by seconds (95%) |", "|---|---|---|"]  # fmt: skip
    for method in methods:
        shown = (told(pooled(strata[method], "iqm"), 3) for strata in (found.by_steps, found.by_seconds))
        lines.append(f"| {METHODS[method].title} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _search(rows: list[Row]) -> str:
    """What every value came to on the tuning seeds."""
    grids = zip(METHODS["cg"].grid, METHODS["ppo"].grid, strict=True)
    names = " | ".join(f"{radius:g} ({rate:g})" for radius, rate in grids)
    said = "mean over environments of the score, divided by the largest of any run there, by radius (of PPO: rate)"
    lines = [f"**Search** on seed 100: {said}", "", f"| method | {names} |", f"|---{'|---' * 5}|"]  # fmt: skip
    scores = searched(rows)
    for name, method in METHODS.items():
        if values := scores.get(name):
            shown = [f"{statistics.fmean(values[v]):.3f}" if v in values else "-" for v in method.grid]
            lines.append(f"| {method.title} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _costs(rows: list[Row]) -> str:
    """By width at one batch, and by batch at one width."""
    sizes = {(int(row["width"]), int(row["samples"])) for row in rows}
    columns = sorted(size for size in sizes if size[1] == cost.BATCH)
    columns += sorted(size for size in sizes if size[1] != cost.BATCH)
    names = " | ".join(f"{width} wide, {samples:,}" for width, samples in columns)
    said = "processor milliseconds of one update of HalfCheetah's actor, by width of its two layers and by samples"
    lines = [f"**Cost**: {said}", "", f"| method | {names} |", "|---" * (len(columns) + 1) + "|"]  # fmt: skip
    for name, method in METHODS.items():
        took = {(int(row["width"]), int(row["samples"])): float(row["milliseconds"])
                for row in rows if row["method"] == name}  # fmt: skip
        if took:
            shown = " | ".join(f"{took[size]:.3g}" if size in took else "-" for size in columns)
            lines.append(f"| {method.title} | {shown} |")
    return "\n".join([*lines, "", "![The same by width and by samples](cost.png)"])


def told(e: Estimate, digits: int = 0) -> str:
    """The value with its interval, if it has one."""
    if np.isnan(e.low):
        return f"{float(e.value):.{digits}f}"
    return f"{float(e.value):.{digits}f} ({float(e.low):.{digits}f} to {float(e.high):.{digits}f})"


def draw(found: Results, out: Path) -> None:
    """scores.png: by environment, each method's IQM by steps and by seconds; pairs.png; cost.png: of an update."""
    if environments := found.environments:
        height = 1.2 + 0.32 * len(found.methods)
        figure, axes = plt.subplots(1, len(environments), figsize=(3.6 * len(environments), height), sharey=True,
                                    layout="constrained", squeeze=False)  # fmt: skip
        for axis, environment in zip(axes[0], environments, strict=True):
            _scores(axis, found, environment)
        axes[0, 0].set_yticks(range(len(found.methods)), [METHODS[m].title for m in found.methods])
        axes[0, 0].invert_yaxis()
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        style.save(figure, out / "scores.png", dpi=110)
    if len(found.complete) > 1:
        titles = {method: METHODS[method].title for method in found.complete}
        pairs.draw((found.by_steps, found.by_seconds), found.pairs, titles, out / "pairs.png")
    if found.costs:
        _draw_costs(found.costs, out / "cost.png")


def _scores(axis: Axes, found: Results, environment: str) -> None:
    sides = ((-0.15, "o", "#1f4e9c", "by steps", found.scores),
             (0.15, "s", "#c44e00", "by seconds", found.scores_in_time))  # fmt: skip
    for shift, marker, color, label, measured in sides:
        for place, method in enumerate(found.methods):
            if not found.of(method, environment):
                continue
            scores = measured(method, environment)
            e = estimate(scores, "iqm", "bootstrap")
            axis.plot(scores, np.full_like(scores, place + shift), ".", color=color, markersize=4, alpha=0.35)
            axis.plot([e.low, e.high], [place + shift] * 2, color=color, linewidth=1.2)
            axis.plot(e.value, place + shift, marker, color=color, markersize=4, label=label if place == 0 else None)
    axis.set(title=environment, xlabel="score: runs, IQM, 95%")
    axis.grid(axis="y", linewidth=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_costs(rows: list[Row], picture: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    sides = (("width", "samples", cost.BATCH, f"width of two layers, with {cost.BATCH:,} samples"),
             ("samples", "width", cost.WIDTH, f"samples, with two layers of {cost.WIDTH}"))  # fmt: skip
    for axis, (column, other, at, said) in zip(axes, sides, strict=True):
        for number, (name, method) in enumerate(METHODS.items()):
            points = sorted((int(r[column]), float(r["milliseconds"])) for r in rows
                            if r["method"] == name and int(r[other]) == at)  # fmt: skip
            color, line = style.CURVES[number % len(style.CURVES)]
            marker = ".xs"[number // len(style.CURVES)]
            if points:
                axis.plot(*zip(*points, strict=True), color=color, linestyle=line, marker=marker, label=method.title)
        axis.set(xscale="log", yscale="log", xlabel=said)
        sizes = sorted({int(row[column]) for row in rows if int(row[other]) == at})
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.grid(linewidth=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("milliseconds of the processor, an update")
    axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    style.save(figure, picture, dpi=110)


def _rows(file: Path) -> list[Row]:
    return read_rows(file) if exists(file) else []
