"""Figures of a comparison: learning curves, final returns, performance profiles, probability of improvement.

Methods differ in dash, marker and lightness as well as in colour, and so can be distinguished in grey.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from rlopt.errors import UserError
from rlopt.report.grouping import Group
from rlopt.report.runs import Series
from rlopt.report.statistics import Array, Centre, Estimate, Method, align, estimate, within

Axis = Literal["steps", "seconds"]
_STYLES: list[tuple[str, Any, str]] = [
    ("#000000", "-", "o"),
    ("#b34700", (0, (5, 2)), "s"),
    ("#6fa8dc", "-", "^"),
    ("#5b7f3a", (0, (1, 1.2)), "D"),
    ("#8a5fa8", (0, (5, 1.5, 1, 1.5)), "v"),
    ("#c9a227", (0, (3, 1)), "P"),
    ("#555555", (0, (8, 2)), "X"),
]
_LONGEST_NAME = 60  # characters of a name in a figure
_CENTRES = {"mean": "mean", "iqm": "interquartile mean"}
_INTERVALS = {"t": "95% t interval", "bootstrap": "95% bootstrap interval"}
_AXES = {"steps": "environment steps", "seconds": "seconds of training"}


def curves(groups: Sequence[Group], axes: Sequence[Axis], scalar: str, centre: Centre, method: Method) -> Figure:
    """Learning curves: a panel for each environment and axis, with the seeds' centre and its interval.

    Seeds are averaged at equal steps on both axes. On the axis of seconds, a step is drawn at the mean of the seeds'
    seconds up to it.
    """
    environments = list(dict.fromkeys(g.environment for g in groups))
    styles, label = _styles(groups), "return of training episodes" if scalar == "episode/return" else short_text(scalar)
    figure, panels = new_panels(len(axes) * len(environments), min(len(environments), 3))
    for panel, (axis, environment) in zip(panels, [(a, e) for a in axes for e in environments], strict=True):
        extent: list[Array] = []
        here = [g for g in groups if g.environment == environment]
        scale, unit = _scale(max(float(getattr(run, axis)[-1]) for g in here for run in g.runs))
        for g in here:
            x, values = align([(run.steps, run.values) for run in g.runs])
            if not len(x):  # unfinished runs without a step in common
                continue
            if axis == "seconds":
                x = align([(run.steps, run.seconds) for run in g.runs])[1].mean(-1)
            found, (color, dash, marker) = estimate(values, centre, method), styles[g.method]
            found = within(found, g.possible if scalar == "episode/return" else None)
            panel.plot(x / scale, found.value, color=color, linestyle=dash, marker=marker if len(x) == 1 else None,
                       linewidth=1.8)  # fmt: skip
            panel.fill_between(x / scale, found.low, found.high, color=color, alpha=_shade(styles), linewidth=0)
            extent.append(values)
        _limit(panel, extent)
        panel.set(title=short_text(environment), xlabel=f"{unit}{_AXES[axis]}", ylabel=label)
    _legend(figure, groups, styles, f"{_CENTRES[centre]} over seeds, {_INTERVALS[method]}")
    return figure


def of_run(scalars: Mapping[str, Series]) -> Figure:
    """A run's own curves, a panel for each scalar."""
    figure, panels = new_panels(len(scalars), min(len(scalars), 3))
    for panel, (name, series) in zip(panels, scalars.items(), strict=True):
        scale, unit = _scale(float(series.steps[-1]))
        marker = "o" if len(series.steps) == 1 else None
        panel.plot(series.steps / scale, series.values, color=_STYLES[0][0], linewidth=1.8, marker=marker)
        label = "return of training episodes" if name == "episode/return" else short_text(name)
        panel.set(xlabel=f"{unit}{_AXES['steps']}", ylabel=label)
    return figure


def returns(groups: Sequence[Group], scores: Sequence[Array], what: str) -> Figure:
    """Each run's score as a dot, and each group's mean with its t interval. ``scores`` are by group."""
    environments = list(dict.fromkeys(g.environment for g in groups))
    styles = _styles(groups)
    methods = list(styles)
    names = [short_text(method) for method in methods]
    columns = min(len(environments), 3)
    figure, panels = new_panels(len(environments), columns, 1.3 + 0.38 * len(methods), beside=names)
    for number, (panel, environment) in enumerate(zip(panels, environments, strict=True)):
        reach: list[Array] = []
        for i, g in enumerate(groups):
            if g.environment != environment:
                continue
            row, (color, _, marker) = methods.index(g.method), styles[g.method]
            panel.plot(scores[i], np.full(len(scores[i]), row + 0.17), marker, color=color, markersize=5, alpha=0.6,
                       markeredgewidth=0)  # fmt: skip
            found = within(estimate(scores[i], "mean", "t"), g.possible)
            _whisker(panel, found, row - 0.17, color)
            reach += [found.low, found.high]
        dots = np.concatenate([scores[i] for i, g in enumerate(groups) if g.environment == environment])
        low, high, room = dots.min(), dots.max(), np.ptp(dots) or abs(dots[0]) or 1.0
        seen = [dots, *np.clip([w for w in reach if np.isfinite(w)], low - room, high + room)]
        _limit(panel, seen, "x")
        panel.set(title=short_text(environment), xlabel=what, ylim=(len(methods) - 0.4, -0.6))
        panel.set_yticks(range(len(methods)), names if number % columns == 0 else [""] * len(methods))
        panel.tick_params(axis="y", length=0)
    return figure


def profiles(found: Mapping[str, Estimate], thresholds: Array, styled: Sequence[Group], what: str) -> Figure:
    """Performance profiles: the fraction of a method's runs above each threshold (N,)."""
    styles = _styles(styled)
    figure, (panel,) = new_panels(1, 1)
    for method, e in found.items():
        color, dash, _ = styles[method]
        panel.step(thresholds, e.value, where="mid", color=color, linestyle=dash, linewidth=1.8)
        panel.fill_between(thresholds, e.low, e.high, step="mid", color=color, alpha=_shade(found), linewidth=0)
    panel.set(xlabel=what, ylabel="fraction of runs above it", ylim=(-0.03, 1.03))
    panel.margins(x=0)
    _legend(figure, [g for g in styled if g.method in found], styles, "95% bootstrap interval")
    return figure


def improvements(found: Mapping[tuple[str, str], Estimate]) -> Figure:
    """P(X > Y) of each pair of methods, with its interval."""
    names = [f"{short_text(x)} > {short_text(y)}" for x, y in found]
    figure, (panel,) = new_panels(1, 1, 1.2 + 0.38 * len(found), beside=names)
    for row, e in enumerate(found.values()):
        _whisker(panel, e, row, "#000000")
    panel.axvline(0.5, color="0.5", linewidth=0.8, linestyle=(0, (1, 2)))
    panel.set(xlim=(-0.03, 1.03), ylim=(len(found) - 0.5, -0.5), xlabel="P(X > Y), 95% bootstrap interval")
    panel.set_yticks(range(len(found)), names)
    panel.tick_params(axis="y", length=0)
    return figure


def check_name(path: Path) -> None:
    """Raise UserError if a figure cannot have this name."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UserError(f"the figure's name must end in .png, .pdf or .svg; got {path}")


def write(figure: Figure, target: Any, **how: Any) -> None:
    """Write a figure to a file or a buffer. Raises UserError where it cannot be written."""
    try:
        with matplotlib.rc_context({"svg.hashsalt": "rlopt"}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # shown as a box
            figure.savefig(target, dpi=130, **how)
    except OSError as error:
        raise UserError(f"the figure {target} cannot be written: {error}") from error


def short_text(name: str) -> str:
    """A name as matplotlib is given it: a dollar is no mathematics, and a long one is cut."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 3]}..."
    return short.replace("$", r"\$")


def new_panels(
    count: int, columns: int, height: float = 3.5, beside: Sequence[str] = (), wide: float = 6.0
) -> tuple[Figure, list[Any]]:
    """A figure, at least ``wide`` inches, and its panels, ``height`` inches high, with room for names at the left."""
    rows, names = -(-count // columns), 0.075 * max(map(len, beside), default=0)
    with matplotlib.rc_context({"font.size": 10, "axes.titlesize": 11}):
        figure = Figure(figsize=(max(4.4 * columns, wide) + names, height * rows))
        figure.set_layout_engine(ConstrainedLayoutEngine(h_pad=0.1))
        panels = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _styles(groups: Sequence[Group]) -> dict[str, tuple[str, Any, str]]:
    """Colour, dash and marker of each method. The eighth method has the first's colour with another dash."""
    found, count = {}, len(_STYLES)
    for i, method in enumerate(dict.fromkeys(g.method for g in groups)):
        _, dash, marker = _STYLES[(i + i // count) % count]
        found[method] = (_STYLES[i % count][0], dash, marker)
    return found


def _shade(methods: Sized) -> float:
    """The opacity of a band; fainter for many methods, whose bands overlap."""
    return 0.16 if len(methods) <= 4 else 0.07


def _whisker(panel: Any, e: Estimate, row: float, color: str) -> None:
    """An estimate as a tick on its interval."""
    panel.plot([e.low, e.high], [row, row], color=color, linewidth=1.4)
    panel.plot([e.value], [row], "|", color=color, markersize=11, markeredgewidth=2.2)


def _limit(panel: Any, extent: Sequence[Array], which: str = "y") -> None:
    """Fit the axis to the runs themselves: an interval from few of them may be many times as wide."""
    if extent:
        low, high = min(e.min() for e in extent), max(e.max() for e in extent)
        room = 0.05 * ((high - low) or abs(high) or 1.0)
        panel.set(**{f"{which}lim": (low - room, high + room)})


def _legend(figure: Figure, groups: Sequence[Group], styles: Mapping[str, tuple[str, Any, str]], title: str) -> None:
    lines, names = [], []
    for method in dict.fromkeys(g.method for g in groups):
        counts = sorted({len(g.runs) for g in groups if g.method == method})
        seeds = " to ".join(str(n) for n in {counts[0]: 0, counts[-1]: 0})
        color, dash, _ = styles[method]
        lines.append(Line2D([], [], color=color, linestyle=dash, linewidth=1.8))
        names.append(f"{short_text(method)}, {seeds} seed{'s' if seeds != '1' else ''}")
    widest = max(map(len, names))
    columns = max(1, min(len(names), int(figure.get_figwidth() * 11 / (widest + 8))))
    figure.set_figheight(figure.get_figheight() + 0.2 * -(-len(names) // columns))
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False, handlelength=3, fontsize=9,
                  title=title, title_fontsize=9)  # fmt: skip


def _scale(largest: float) -> tuple[float, str]:
    """A unit for numbers up to ``largest``, and its name."""
    return (1e6, "million ") if largest >= 2e6 else (1e3, "thousand ") if largest >= 2e3 else (1.0, "")
