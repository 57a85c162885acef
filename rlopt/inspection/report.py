"""The results of an inspection: a table on the terminal, and inspect.json and inspect.png in the run's folder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rlopt.errors import UserError, needs_extra
from rlopt.files import replace_file
from rlopt.inspection.budget import LeftOut
from rlopt.inspection.inspect import Direction, Inspection
from rlopt.loggers import console

_NAMED = 4  # metrics; more of them are counted
_WIDTH = 120  # columns of the table; a narrower terminal breaks its lines
_HEADS = (
    "metric", "largest\neigenvalue", "condition\nat least", "solver", "cosine\nto g", "cosine\nto exact",
    "gain\npredicted", "gain\nreal", "KL real\n/ nats", "time\n/ ms", "memory\n/ kB",
)  # fmt: skip
LEGEND = """\
gain: improvement of the objective by the step along the direction whose predicted KL is the radius
exact: (M + lambda I)^-1 g in float64; - where M + lambda I is not positive definite
time, memory: of prepare and solve; memory of new tensors that are alive at once, without libraries' workspace
every pair starts without history: running means, past gradients and pairs of L-BFGS hold this batch alone"""


def publish(about: Mapping[str, Any], found: Inspection, run_dir: Path, out: Path | None) -> None:
    """Print the table, write inspect.json, and draw the figure to ``out`` (inspect.png) if matplotlib is installed."""
    where = f"{about['env']}, {about['algo']}, " + ("initial policy" if about["fresh"] else f"step {about['step']:,}")
    title = (
        f"{where}: {found.parameters:,} parameters, {found.samples:,} samples, seed {about['seed']}, "
        f"{about['dtype']} on one thread\nobjective {about['objective']}, |g| {found.gradient_norm:.3g}, "
        f"lambda {found.damping:g}, radius {found.radius:g} nats"
    )
    print_table(found, title, Console())
    path, out = run_dir / "inspect.json", out or run_dir / "inspect.png"
    try:
        replace_file(path, json.dumps({**about, **found.plain()}, indent=1) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error
    if importlib.util.find_spec("matplotlib") is None:
        console.info(f"rlopt: {needs_extra('no figure, it needs matplotlib', 'plot')}")
        print(f"  data:      {path}")
        return
    from rlopt.inspection.figure import draw_figure

    draw_figure(found, title, out)
    if out.suffix == ".png":
        from rlopt.loggers.tensorboard import add_figure

        add_figure(run_dir, "inspect", out, about["step"])
    print(f"  data:      {path}\n  figure:    {out}")


def print_table(found: Inspection, title: str, console: Console) -> None:
    """Print a row for every pair, grouped by metric, and below the table why some pairs failed."""
    console = Console(file=console.file, width=max(console.width, _WIDTH), highlight=False)
    console.print(title)
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in _HEADS:
        grid.add_column(head, justify="left" if head in ("metric", "solver") else "right", no_wrap=True)
    for spectrum in found.spectra:
        of_metric = [d for d in found.directions if d.metric == spectrum.metric]
        best = max((d.improvement for d in of_metric if d.improvement is not None), default=None)
        first = (spectrum.metric, _number(spectrum.largest, "9.3g"), _number(spectrum.condition, "9.1e"))
        for i, d in enumerate(of_metric):
            grid.add_row(*(("", "", "") if i else first), *_cells(d), style="bold" if d.improvement == best else "")
        grid.add_row()
    console.print(grid)
    for line in _notes(found):
        console.print(line, soft_wrap=True)
    console.print(LEGEND, soft_wrap=True)


def _cells(d: Direction) -> tuple[str, ...]:
    solver = d.solver if d.failure is None else f"{d.solver} (failed)"
    kilobytes = None if d.peak_bytes is None else d.peak_bytes / 1000
    return (
        solver, _number(d.cosine_gradient, ".4f"), _number(d.cosine_exact, ".4f"),
        _number(d.improvement_predicted, "#.3g"), _number(d.improvement, "#.3g"), _number(d.kl, "#.3g"),
        _number(d.milliseconds, ".2f"), _number(kilobytes, ",.0f"),
    )  # fmt: skip


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form).strip()


def _notes(found: Inspection) -> Iterator[str]:
    for s in found.spectra:
        if s.failure:
            yield f"metric={s.metric}: {s.failure}"
        if s.negative:
            count, least = len(s.eigenvalues), min(s.eigenvalues)
            yield f"metric={s.metric}: {s.negative} of the {count} eigenvalues found are below 0, down to {least:.3g}"
        raised = [
            d for d in found.directions if d.metric == s.metric and (d.damping or 0.0) > found.damping * (1 + 1e-6)
        ]
        if raised:
            listed = ", ".join(f"{d.damping:.2g} by {d.solver}" for d in raised)
            yield f"metric={s.metric}: lambda was raised to {listed}"
    for d in found.directions:
        if d.failure:
            yield f"metric={d.metric} solver={d.solver}: {d.failure}"
    yield from _left_out(found.left_out)


def _left_out(left_out: list[LeftOut]) -> Iterator[str]:
    """What was too slow, in one line, and which exact solutions were, each with the option that brings it back."""
    slow: dict[str, list[LeftOut]] = {}
    for pair in left_out:
        if pair.solver and pair.seconds is not None:
            slow.setdefault(pair.solver, []).append(pair)
    large = sorted({pair.metric for pair in left_out if pair.solver and pair.seconds is None})
    groups = [f"solver={solver} with {_with_times(group)}" for solver, group in slow.items()]
    groups += [f"metric={metric}, whose matrix is large" for metric in large]
    if groups:
        yield f"left out, too slow: {', '.join(groups)}; --pairs all brings them back"
    if missing := [pair.metric for pair in left_out if not pair.solver]:
        yield f"no exact solution by conjugate gradient: metric={','.join(missing)}; --exact factorises the matrix"


def _with_times(group: list[LeftOut]) -> str:
    """fisher, ggn (12 to 15 s a solve)"""
    names = ", ".join(pair.metric for pair in group) if len(group) <= _NAMED else f"{len(group)} metrics"
    seconds = [pair.seconds for pair in group if pair.seconds is not None]
    least, most = (f"{value:.1f}" if value < 10 else f"{value:,.0f}" for value in (min(seconds), max(seconds)))
    return f"{names} ({least if least == most else f'{least} to {most}'} s a solve)"
