"""`rlopt plot`: learning curves, averaged over seeds, with intervals."""

from __future__ import annotations

from pathlib import Path

from rlopt.cli.exit_codes import Parser, check_plotting


def run(arguments: list[str]) -> int:
    about = "Draw learning curves. Runs that differ only in the seed are averaged; others are labelled with the options"
    parser = Parser(prog="rlopt plot", description=f"{about} that differ.")
    add = parser.add_argument
    add("folders", type=Path, nargs="+", metavar="RUN", help="folder of a run, or a folder that contains runs")
    figure = "file of the figure, .png, .pdf or .svg (curves.png)"
    add("--out", type=Path, default=Path("curves.png"), metavar="F.png", help=figure)
    add("--scalar", default="episode/return", metavar="NAME", help="scalar to draw (episode/return)")
    axis = "horizontal axis: environment steps, or seconds of training (steps)"
    add("--axis", choices=("steps", "seconds", "both"), default="steps", help=axis)
    add("--centre", choices=("mean", "iqm"), default="mean", help="mean or interquartile mean over seeds (mean)")
    interval = "95%% interval; a bootstrap interval of few seeds is too narrow (t)"
    add("--interval", choices=("t", "bootstrap"), default="t", help=interval)
    add("--unfinished", action="store_true", help="draw unfinished runs too, as far as they have come")
    options = parser.parse_args(arguments)
    check_plotting("rlopt plot")

    from rlopt.report import figures, runs
    from rlopt.report.grouping import groups

    figures.check_name(options.out)
    found, _ = runs.read_all(options.folders, options.scalar, options.unfinished)
    grouped = groups(found)
    axes: tuple[figures.Axis, ...] = ("steps", "seconds") if options.axis == "both" else (options.axis,)
    figures.write(figures.curves(grouped, axes, options.scalar, options.centre, options.interval), options.out)
    for g in grouped:  # their names are printable since they were read
        apart = max(run.steps[0] for run in g.runs) > min(run.steps[-1] for run in g.runs)
        note = "; not drawn, they have no step in common yet" if apart else ""
        print(f"{g.environment}, {g.method}: seeds {', '.join(str(run.seed) for run in g.runs)}{note}")
    print(f"  figure:    {options.out}")
    return 0
