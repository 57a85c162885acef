"""`rlopt report`: one page that compares all runs in a folder."""

from __future__ import annotations

import time
from pathlib import Path

from rlopt import __version__
from rlopt.cli.exit_codes import Parser, check_plotting
from rlopt.errors import UserError


def run(arguments: list[str]) -> int:
    about = "Compare all runs in a folder on one page: learning curves, a table of returns, performance profiles and"
    parser = Parser(prog="rlopt report", description=f"{about} probabilities of improvement.")
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="contains the runs, at any depth")
    page_file = "the page (DIR/report.html); its tables are written beside it, as .md"
    add("--out", type=Path, metavar="F.html", help=page_file)
    scale = "returns that count as 0 and 1 in averages over environments (the untrained policies', the best run's)"
    add("--range", action="append", default=[], metavar="ENV=LOW,HIGH", help=scale)
    options = parser.parse_args(arguments)
    ranges = dict(_parse_range(text) for text in options.range)
    out = options.out or options.folder / "report.html"
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out must end in .html; got {out}")
    check_plotting("rlopt report")

    from rlopt.files import replace_file
    from rlopt.report import comparison, study, trials
    from rlopt.report.grouping import groups
    from rlopt.report.page import page
    from rlopt.report.runs import read_all

    runs, left_out = read_all([options.folder], "episode/return", unfinished=False)
    grouped = groups(runs)
    unknown = sorted(set(ranges) - {g.environment for g in grouped})
    if unknown:
        there = ", ".join(dict.fromkeys(g.environment for g in grouped))
        raise UserError(f"--range {unknown[0]}: no run is on it; the runs are on {there}")
    compared = comparison.compare(grouped, left_out, ranges)
    tables = comparison.markdown(comparison.HEADS, comparison.table(compared))
    if rows := comparison.pooled_table(compared):
        tables += "\n\n" + comparison.markdown(comparison.POOLED_HEADS, rows)
    drawn = trials.load(options.folder)
    if drawn is not None and (top := trials.best(drawn)):
        tables += f"\n\nStudy: {trials.describe(drawn)}; the best, trial {top.number}, has return {top.value:,.6g}:\n\n"
        tables += f"    {trials.command(drawn, top)}"
    about = f"{len(runs)} runs in {options.folder}; rlopt {__version__}, {time.strftime('%d %B %Y')}"
    try:
        replace_file(out, page(compared, about, out.parent, study.section(drawn) if drawn else ()))
        replace_file(out.with_suffix(".md"), tables + "\n")
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}") from error
    print(f"{tables}\n  page:      {out}\n  table:     {out.with_suffix('.md')}")
    return 0


def _parse_range(text: str) -> tuple[str, tuple[float, float]]:
    environment, _, numbers = text.rpartition("=")
    try:
        low, high = (float(part) for part in numbers.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not environment or not low < high:
        raise UserError(f"--range takes ENV=LOW,HIGH with LOW below HIGH, such as CartPole-v1=0,500; got {text}")
    return environment, (low, high)
