"""Exploration where rewards are rare: scripts/reproduce exploration [--quick] [--draw] [--jobs N]

Trains PPO and TRPO on a grid with one rewarded corner, with random network distillation and without, then writes the
table, curves.png and the claims from results/.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
PARTS = ("--extensions", str(HERE / "parts"))
SEEDS = range(11, 16)  # fixed before any of them was run; settings were tried on seeds 0 to 3
STEPS = 60_000
RND = ("exploration=rnd", "exploration.coefficient=1", "exploration.lr=1e-3")
KINDS = {"with rnd": RND, "alone": ()}
SETTINGS = {
    "ppo": ("schedule.epochs=4", "critic.schedule.epochs=4", "scheduler=constant", "critic.scheduler=constant",
            "objective.entropy=0.01"),
    "trpo": ("critic.schedule.epochs=4",),
}  # fmt: skip
STYLES = {"ppo": "#1f4e9c", "trpo": "#c44e00"}
ENV = "grid"


def planned(quick: bool) -> list[trained.Run]:
    steps, seeds = (4_096, [0]) if quick else (STEPS, SEEDS)
    return [
        trained.Run(f"{algo} {kind}", ENV, steps, seed, (f"algo={algo}", *SETTINGS[algo], *extra, *PARTS))
        for algo in STYLES
        for kind, extra in KINDS.items()
        for seed in seeds
    ]


def reached(points: list[dict[str, str]], name: str) -> list[int | None]:
    """By seed, the steps after which an episode had first been rewarded in training; None: never."""
    found = trained.curves(points, name, ENV)
    return [
        next((int(x) for x, y in zip(steps, values, strict=True) if y > 0), None) for steps, values in found.values()
    ]


def table(rows: list[dict[str, str]], points: list[dict[str, str]]) -> str:
    """Evaluation returns and the first reward, as Markdown."""
    lines = [
        "| algo | solved, of seeds | evaluation return, mean (95% t) | seeds that met the reward, first after steps |",
        "|---|---|---|---|",
    ]
    for name in (f"{algo} {kind}" for algo in STYLES for kind in KINDS):
        if values := trained.evaluations(rows, name, ENV):
            met = [step for step in reached(points, name) if step is not None]
            shown = f"{len(met)}: {min(met):,} to {max(met):,}" if met else "0"
            solved = f"{sum(value > 0.95 for value in values)} of {len(values)}"
            lines.append(f"| {name} | {solved} | {trained.mean_with_interval(values)} | {shown} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """With RND every seed solves the grid; alone fewer do."""
    found = []
    for algo in STYLES:
        values, alone = (trained.evaluations(rows, f"{algo} {kind}", ENV) for kind in KINDS)
        if values and alone:
            solved, without = (sum(value > 0.95 for value in each) for each in (values, alone))
            said = f"{algo}: {solved} of {len(values)} seeds solve the grid with RND, {without} of {len(alone)} alone"
            found.append((said, solved == len(values) and without < len(alone)))
    return found


def draw(points: list[dict[str, str]], picture: Path) -> None:
    figure, axis = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for algo, color in STYLES.items():
        for kind, line in zip(KINDS, ("-", ":"), strict=True):
            if found := trained.curves(points, f"{algo} {kind}", ENV):
                trained.band(axis, found, STEPS, f"{algo} {kind}", color=color, linestyle=line)
    axis.set(title="Grid of 10 x 10, 22 steps", xlabel="thousand environment steps", ylabel="training episode return")
    axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("Exploration where rewards are rare.", "one seed, 4,096 steps").parse_args()
    results, out = trained.places(HERE, options.quick)
    if not options.draw:
        trained.collect(planned(options.quick), results, options.jobs)
    rows = read_rows(results / "runs.csv")
    points = read_rows(results / "curves.csv")
    if not options.quick:
        draw(points, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows, points), claims(rows))


if __name__ == "__main__":
    raise SystemExit(main())
