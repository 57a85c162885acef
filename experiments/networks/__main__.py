"""A network of one's own under K-FAC: scripts/reproduce networks [--quick] [--draw] [--jobs N]

ACKTR on Hopper with rlopt's own MLP and with the residual network of parts/policy; then the table, curves.png and the
claim from results/.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
SEEDS = range(1, 6)  # fixed before any of them was run
STEPS = 200_000
PARTS = ("--extensions", str(HERE / "parts"))
PLAN = {  # name -> its options, and its colour
    "mlp": (("policy=mlp",), "#1f4e9c"),
    "residual": (("policy=residual", *PARTS), "#c44e00"),
}


def table(rows: list[dict[str, str]]) -> str:
    lines = ["| policy | evaluation return, mean (95% t) | by seed |", "|---|---|---|"]
    for name in PLAN:
        values = trained.evaluations(rows, name, "hopper")
        each = ", ".join(f"{value:.4g}" for value in values)
        lines.append(f"| {name} | {trained.mean_with_interval(values)} | {each} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    own, usual = (statistics.mean(trained.evaluations(rows, name, "hopper")) for name in ("residual", "mlp"))
    return [(f"a residual network has {own / usual:.2f} of the MLP's return, .8 asked for", own >= 0.8 * usual)]


def draw(results: Path, picture: Path) -> None:
    points = read_rows(results / "curves.csv")
    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, (_, color) in PLAN.items():
        trained.band(axis, trained.curves(points, name, "hopper"), STEPS, name, color=color)
    axis.set(title="ACKTR on Hopper", xlabel="thousand environment steps", ylabel="training episode return")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("A network of one's own under K-FAC.", "one seed, 8,000 steps").parse_args()
    results, out = trained.places(HERE, options.quick)
    steps, seeds = (8_000, range(1)) if options.quick else (STEPS, SEEDS)
    if not options.draw:
        runs = [trained.Run(name, "hopper", steps, seed, ("algo=acktr", *own))
                for seed in seeds for name, (own, _) in PLAN.items()]  # fmt: skip
        trained.collect(runs, results, options.jobs)
    rows = read_rows(results / "runs.csv")
    if not options.quick:  # one seed has no interval
        draw(results, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows), claims(rows))


if __name__ == "__main__":
    raise SystemExit(main())
