"""Every algorithm on classic control: scripts/reproduce classic_control [--quick] [--draw] [--jobs N]

Trains what PLAN names, then writes the table and curves.png from results/.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SEEDS = range(5)  # fixed before any of them was run
# environment -> its name, the mean that is asked for, and the steps of each algorithm. 300,000 were fixed for the last
# three at first; two of them left the bar again after they had reached it, so both lengths are shown.
PLAN = {
    "cartpole": ("CartPole-v1", 475, {
        "vpg": 300_000, "a2c": 500_000, "npg": 100_000, "nac": 300_000, "enac": 500_000, "trpo": 100_000,
        "acktr": 100_000, "ppo": 100_000, **dict.fromkeys(["newton", "gauss_newton", "ggn"], 100_000),
        **dict.fromkeys(["newton 300k", "gauss_newton 300k", "ggn 300k"], 300_000),
    }),
    "pendulum": ("Pendulum-v1", -200, dict.fromkeys(["ppo", "trpo", "npg", "acktr"], 300_000)),
    "acrobot": ("Acrobot-v1", -90, dict.fromkeys(["ppo", "trpo", "acktr"], 500_000)),
    "lunar_lander": ("LunarLander-v3", 200, dict.fromkeys(["ppo", "trpo"], 1_000_000)),
}  # fmt: skip
# rl-zoo's benchmark.md: one run each, deterministic evaluation, at the steps given there
PUBLISHED = {
    ("ppo", "cartpole"): "500 at 100k", ("trpo", "cartpole"): "500 at 100k", ("a2c", "cartpole"): "500 at 500k",
    ("ppo", "acrobot"): "-73.5 at 1M", ("trpo", "acrobot"): "-83.1 at 100k",
    ("ppo", "pendulum"): "-172 at 100k", ("trpo", "pendulum"): "-175 at 100k",
    ("ppo", "lunar_lander"): "242 at 1M", ("trpo", "lunar_lander"): "133 at 200k",
}  # fmt: skip
SMOOTH = 5  # points of a curve whose mean must reach the bar
COLORS = ("#1f4e9c", "#c44e00", "#5a8f29", "#8a3fa0", "#666666", "#b3940a", "#0e8c8c", "#b03060", "#3b3b9e", "#7a5230",
          "#2f2f2f")  # fmt: skip


def planned(quick: bool) -> list[trained.Run]:
    return [
        trained.Run(algo, env, 10_000 if quick else steps, seed, (f"algo={algo.split()[0]}",))
        for env, (_, _, algos) in PLAN.items()
        for algo, steps in algos.items()
        for seed in (range(2) if quick else SEEDS)
        if not quick or env == "cartpole"
    ]


def reached(steps: list[float], values: list[float], bar: float) -> float | None:
    """The first step at which the mean of SMOOTH points is at the bar; None where it never is."""
    for i in range(SMOOTH, len(values) + 1):
        if sum(values[i - SMOOTH : i]) / SMOOTH >= bar:
            return steps[i - 1]
    return None


def table(results: Path) -> str:
    """Evaluation returns and the steps to the bar, as Markdown."""
    rows, points = read_rows(results / "runs.csv"), read_rows(results / "curves.csv")
    lines = ["| environment | algo | steps | evaluation return, mean (95% t) | lowest | steps to the bar | rl-zoo |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for env, (title, bar, algos) in PLAN.items():
        for algo in algos:
            values = trained.evaluations(rows, algo, env)
            if not values:
                continue
            low, high = trained.interval(values) if len(values) > 1 else (values[0], values[0])
            needed = [reached(x, y, bar) for x, y in trained.curves(points, algo, env).values()]
            there = [n for n in needed if n is not None]
            when = f"{statistics.median(there):,.0f}" if there else "-"
            when += f" ({len(there)} of {len(needed)})" if len(there) < len(needed) else ""
            steps = max(int(r["steps"]) for r in rows if (r["name"], r["environment"]) == (algo, env))
            lines.append(
                f"| {title} | {algo} | {steps:,} | {statistics.mean(values):.0f} ({low:.0f} to {high:.0f}) "
                f"| {min(values):.0f} | {when} | {PUBLISHED.get((algo, env), '-')} |"
            )
    return "\n".join(lines)


def draw(results: Path, picture: Path) -> None:
    points = read_rows(results / "curves.csv")
    order = list(dict.fromkeys(name.split()[0] for _, _, algos in PLAN.values() for name in algos))
    figure, axes = plt.subplots(2, 2, figsize=(12, 8), constrained_layout=True)
    for axis, (env, (title, bar, algos)) in zip(axes.flat, PLAN.items(), strict=True):
        for algo, steps in algos.items():
            found = trained.curves(points, algo, env)
            if found and f"{algo} 300k" not in algos:  # the longer run shows both
                i = order.index(algo.split()[0])
                trained.band(axis, found, steps, algo, color=COLORS[i], linestyle=("-", "--", "-.", ":")[i % 4])
        axis.axhline(bar, color="black", linewidth=0.6)
        axis.set(title=title, xlabel="thousand environment steps", ylabel="training episode return")
        axis.legend(frameon=False, fontsize=8, ncols=2)
        axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Every algorithm on classic control.")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--draw", action="store_true", help="only draw and tabulate what is there")
    parser.add_argument(
        "--quick", action="store_true", help="10,000 steps of CartPole, into runs/classic_control-quick"
    )
    options = parser.parse_args()
    results = ROOT / "runs/classic_control-quick" if options.quick else HERE / "results"
    if not options.draw:
        trained.collect(planned(options.quick), results, options.jobs)
    draw(results, (results if options.quick else HERE) / "curves.png")
    print(table(results))


if __name__ == "__main__":
    main()
