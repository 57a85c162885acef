"""rlopt report: all runs of a folder compared on one page."""

from __future__ import annotations

import time
from pathlib import Path

from rlopt import __version__
from rlopt.cli.exit_codes import Parser, needs_plotting
from rlopt.errors import UserError


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt report", description="Compare all runs of a folder: a page with curves, a table of "
                    "returns, performance profiles and probabilities of improvement.")  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="DIR", help="holds the runs, at any depth")
    parser.add_argument(
        "--out", type=Path, metavar="F.html", help="the page (DIR/report.html); the table goes beside it"
    )
    parser.add_argument("--range", action="append", default=[], metavar="ENV=LOW,HIGH", help="returns that are 0 and "
                        "1 where environments are averaged (the untrained policies', the best run's)")  # fmt: skip
    options = parser.parse_args(arguments)
    ranges = dict(_range(text) for text in options.range)
    out = options.out or options.folder / "report.html"
    if out.suffix not in (".html", ".htm"):
        raise UserError(f"--out must end in .html; got {out}")
    needs_plotting("rlopt report")

    from rlopt.files import replace_file
    from rlopt.report import comparison as made
    from rlopt.report.grouping import groups
    from rlopt.report.page import page
    from rlopt.report.runs import print_left_out, read_all

    runs, left_out = read_all([options.folder], "episode/return", unfinished=False)
    print_left_out(left_out)
    grouped = groups(runs)
    unknown = sorted(set(ranges) - {g.environment for g in grouped})
    if unknown:
        there = ", ".join(dict.fromkeys(g.environment for g in grouped))
        raise UserError(f"--range {unknown[0]}: no run is on it; the runs are on {there}")
    compared = made.compare(grouped, left_out, ranges)
    tables = made.markdown(made.HEADS, made.table(compared))
    if rows := made.pooled_table(compared):
        tables += "\n\n" + made.markdown(made.POOLED_HEADS, rows)
    about = f"{len(runs)} runs in {options.folder}; rlopt {__version__}, {time.strftime('%d %B %Y')}"
    try:
        replace_file(out, page(compared, about))
        replace_file(out.with_suffix(".md"), tables + "\n")
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}") from error
    print(f"{tables}\n  page:      {out}\n  table:     {out.with_suffix('.md')}")
    return 0


def _range(text: str) -> tuple[str, tuple[float, float]]:
    environment, _, numbers = text.rpartition("=")
    try:
        low, high = (float(part) for part in numbers.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not environment or not low < high:
        raise UserError(f"--range takes ENV=LOW,HIGH with LOW below HIGH, such as CartPole-v1=0,500; got {text}")
    return environment, (low, high)
