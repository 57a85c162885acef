"""rlopt plot: learning curves averaged over seeds, with intervals."""

from __future__ import annotations

from pathlib import Path

from rlopt.cli.exit_codes import Parser, needs_plotting


def run(arguments: list[str]) -> int:
    parser = Parser(prog="rlopt plot", description="Learning curves. Runs that differ in the seed alone are averaged; "
                    "others are told apart by the options that differ.")  # fmt: skip
    parser.add_argument("places", type=Path, nargs="+", metavar="RUN", help="folder of a run, or one that holds runs")
    parser.add_argument("--out", type=Path, default=Path("curves.png"), metavar="F.png",
                        help="the figure; .png, .pdf or .svg (curves.png)")  # fmt: skip
    parser.add_argument("--scalar", default="episode/return", metavar="NAME", help="what is drawn (episode/return)")
    parser.add_argument("--axis", choices=("steps", "seconds", "both"), default="steps",
                        help="environment steps, or seconds of training (steps)")  # fmt: skip
    parser.add_argument("--centre", choices=("mean", "iqm"), default="mean", help="mean, or interquartile mean (mean)")
    parser.add_argument("--interval", choices=("t", "bootstrap"), default="t",
                        help="95%% interval; the bootstrap's is too narrow from few seeds (t)")  # fmt: skip
    parser.add_argument("--unfinished", action="store_true", help="take in runs that have not ended, as far as they go")
    options = parser.parse_args(arguments)
    needs_plotting("rlopt plot")

    from rlopt.report import figures, runs
    from rlopt.report.grouping import groups

    figures.check_name(options.out)
    found, left_out = runs.read_all(options.places, options.scalar, options.unfinished)
    runs.print_left_out(left_out)
    grouped = groups(found)
    axes: tuple[figures.Axis, ...] = ("steps", "seconds") if options.axis == "both" else (options.axis,)
    figures.write(figures.curves(grouped, axes, options.scalar, options.centre, options.interval), options.out)
    for g in grouped:
        apart = max(run.steps[0] for run in g.runs) > min(run.steps[-1] for run in g.runs)
        note = "; not drawn, they have no step in common yet" if apart else ""
        print(f"{g.environment}, {g.method}: seeds {', '.join(str(run.seed) for run in g.runs)}{note}")
    print(f"  figure:    {options.out}")
    return 0
