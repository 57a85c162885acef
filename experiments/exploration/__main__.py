"""Exploration where rewards are rare: scripts/reproduce exploration [--quick] [--draw] [--jobs N]

Trains PPO and TRPO on grids with one rewarded corner, with random network distillation and without, then writes the
table, curves.png and the claims from results/.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
PARTS = ("--extensions", str(HERE / "parts"))
KINDS = {"with rnd": "-", "alone": ":"}  # and their lines in the figure
SETTINGS = {
    "ppo": ("schedule.epochs=4", "critic.schedule.epochs=4", "scheduler=constant", "critic.scheduler=constant"),
    "trpo": ("critic.schedule.epochs=4",),
}  # fmt: skip
STYLES = {"ppo": "#1f4e9c", "trpo": "#c44e00"}
ENV = "grid"


class Grid(NamedTuple):
    """A grid: how rows of the tables say which, its title, options of all runs and of those with RND, and seeds."""

    suffix: str
    title: str
    steps: int
    options: tuple[str, ...]
    entropy: float  # weight of the entropy in PPO's objective
    lr: float  # of RND's predictor
    solved: float  # an evaluation return above it
    seeds: range  # fixed before any of them was run; settings were tried on seeds 0 to 9

    def name(self, algo: str, kind: str) -> str:
        return f"{algo} {kind}{self.suffix}"

    def overrides(self, algo: str, kind: str) -> tuple[str, ...]:
        own = (f"objective.entropy={self.entropy:g}",) if algo == "ppo" else ()
        rnd = ("exploration=rnd", "exploration.coefficient=1", f"exploration.lr={self.lr:g}")
        return (f"algo={algo}", *SETTINGS[algo], *own, *self.options, *(rnd if kind == "with rnd" else ()))


GRIDS = (
    Grid(", steps cost", "a step costs .01", 120_000, ("env.kwargs.cost=0.01", "rewards.scale=false"), 0, 3e-4, 0.8,
         range(51, 56)),
    Grid("", "steps are free", 60_000, (), 0.01, 1e-3, 0.95, range(11, 16)),
)  # fmt: skip


def planned(quick: bool) -> list[trained.Run]:
    runs = []
    for grid in GRIDS:
        for algo in STYLES:
            for kind in KINDS:
                steps, seeds = (4_096, [0]) if quick else (grid.steps, grid.seeds)
                overrides = (*grid.overrides(algo, kind), *PARTS)
                runs += [trained.Run(grid.name(algo, kind), ENV, steps, seed, overrides) for seed in seeds]
    return runs


def reached(points: list[dict[str, str]], name: str) -> list[int | None]:
    """By seed, the steps after which an episode had first been rewarded in training; None: never."""
    found = trained.curves(points, name, ENV)
    return [
        next((int(x) for x, y in zip(steps, values, strict=True) if y > 0), None) for steps, values in found.values()
    ]


def table(rows: list[dict[str, str]], points: list[dict[str, str]]) -> str:
    """Evaluation returns and the first reward, as Markdown."""
    lines = [
        "| grid | algo | solved, of seeds | evaluation return, mean (95% t) | mean above 0, first after steps |",
        "|---|---|---|---|---|",
    ]
    for grid in GRIDS:
        for algo in STYLES:
            for kind in KINDS:
                name = grid.name(algo, kind)
                if values := trained.evaluations(rows, name, ENV):
                    met = [step for step in reached(points, name) if step is not None]
                    shown = f"{len(met)}: {min(met):,} to {max(met):,}" if met else "0"
                    solved = f"{sum(value > grid.solved for value in values)} of {len(values)}"
                    mean = trained.mean_with_interval(values)
                    lines.append(f"| {grid.title} | {algo} {kind} | {solved} | {mean} | {shown} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """With RND every seed solves a grid; alone fewer do, and PPO none where steps cost something."""
    found = []
    for grid in GRIDS:
        for algo in STYLES:
            values, alone = (trained.evaluations(rows, grid.name(algo, kind), ENV) for kind in KINDS)
            if values and alone:
                solved, without = (sum(value > grid.solved for value in each) for each in (values, alone))
                counts = f"{solved} of {len(values)} seeds with RND, {without} of {len(alone)} alone"
                most = 0 if grid.suffix and algo == "ppo" else len(alone) - 1
                found.append((f"{algo}, {grid.title}: {counts}", solved == len(values) and without <= most))
    return found


def draw(points: list[dict[str, str]], picture: Path) -> None:
    figure, axes = plt.subplots(1, len(GRIDS), figsize=(11, 4), constrained_layout=True)
    for axis, grid in zip(axes, GRIDS, strict=True):
        for algo, color in STYLES.items():
            for kind, line in KINDS.items():
                if found := trained.curves(points, grid.name(algo, kind), ENV):
                    trained.band(axis, found, grid.steps, f"{algo} {kind}", color=color, linestyle=line)
        axis.set(title=f"Grid of 10 x 10: {grid.title}", xlabel="thousand environment steps")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("training episode return")
    axes[0].legend(frameon=False, fontsize=9)
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
