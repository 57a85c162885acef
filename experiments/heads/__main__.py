"""Distributions over bounded actions: scripts/reproduce heads [--quick] [--draw] [--jobs N]

PPO on LunarLanderContinuous with every distribution of PLAN; then the table, curves.png and the claims from results/.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
SEEDS = range(2, 7)  # fixed before any of them was run; seeds 0 and 1 were tried before
STEPS = 500_000
COMMON = ("env.id=LunarLanderContinuous-v3", "algo=ppo", "gamma=0.999", "gae_lambda=0.98")
PLAN = {  # name -> its options, and its colour
    "gaussian": ((), "#1f4e9c"),
    "scale from the network": (("policy.scale=network",), "#c44e00"),
    "beta": (("policy.head=beta",), "#5a8f29"),
}


def differences(rows: list[dict[str, str]], name: str) -> list[float]:
    """Evaluation return less that of the Gaussian, by seed."""
    own, usual = (trained.evaluations(rows, each, "any") for each in (name, "gaussian"))
    return [a - b for a, b in zip(own, usual, strict=True)]


def table(rows: list[dict[str, str]]) -> str:
    lines = ["| | evaluation return, mean (95% t) | lowest | less the Gaussian's (95% t) |", "|---|---|---|---|"]
    for name in PLAN:
        values, less = trained.evaluations(rows, name, "any"), differences(rows, name)
        shown = [trained.mean_with_interval(x) for x in (values, less)]
        lines.append(f"| {name} | {shown[0]} | {min(values):.4g} | {shown[1] if name != 'gaussian' else ''} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    found = []
    for name in list(PLAN)[1:]:
        less = differences(rows, name)
        high = trained.interval(less)[1] if len(less) > 1 else less[0]
        found.append((f"{name}: {statistics.mean(less):+.1f} to the Gaussian, at most {high:+.1f}", high >= 0))
    return found


def draw(results: Path, picture: Path, steps: int) -> None:
    points = read_rows(results / "curves.csv")
    figure, axis = plt.subplots(figsize=(7, 4.5), constrained_layout=True)
    for name, (_, color) in PLAN.items():
        trained.band(axis, trained.curves(points, name, "any"), steps, name, color=color)
    axis.set(title="LunarLanderContinuous", xlabel="thousand environment steps", ylabel="training episode return")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("Distributions over bounded actions, by PPO.", "one seed, 10,000 steps").parse_args()
    results, out = trained.places(HERE, options.quick)
    steps, seeds = (10_000, range(1)) if options.quick else (STEPS, SEEDS)
    if not options.draw:
        runs = [trained.Run(n, "any", steps, s, (*COMMON, *own)) for s in seeds for n, (own, _) in PLAN.items()]
        trained.collect(runs, results, options.jobs)
    rows = read_rows(results / "runs.csv")
    if not options.quick:  # one seed has no interval
        draw(results, out / "curves.png", steps)
    return trained.finish(HERE, options.quick, table(rows), claims(rows))


if __name__ == "__main__":
    raise SystemExit(main())
