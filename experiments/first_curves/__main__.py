"""The first learning curves: scripts/reproduce first_curves [--jobs N] [--draw]

Runs `rlopt train` for every row of RUNS, then writes results/runs.csv (one line a run, from summary.json),
results/curves.csv (from the TensorBoard events), a table and curves.png. --draw makes table and figure anew.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from experiments._shared import style, trained
from experiments._shared.data import read_rows, write_rows

HERE = Path(__file__).parent
RESULTS = HERE / "results"
# algo, environment, steps, seeds (fixed before any of them was run), what is asked of the mean (None: of every seed)
RUNS = [
    ("trpo", "cartpole", 100_000, range(5), 475),
    ("npg", "cartpole", 100_000, range(5), 475),
    ("ppo", "cartpole", 100_000, range(5), 475),
    ("vpg", "cartpole", 300_000, range(5), 475),
    ("trpo", "pendulum", 200_000, range(5), -200),
    ("ppo", "pendulum", 200_000, range(5), -200),
    ("trpo", "halfcheetah", 300_000, range(10), 3200),
    ("ppo", "halfcheetah", 300_000, range(10), 4000),
]
EPISODE = 1000  # steps of a HalfCheetah episode
CURVE = {"cartpole": "episode/return", "pendulum": "episode/return", "halfcheetah": "rollout/reward"}


def train(algo: str, env: str, steps: int, seed: int) -> tuple[dict, list[tuple[int, float]]]:
    """One run in a process of its own -> its summary, and its curve as (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        run_dir = f"{folder}/run"
        overrides = [f"algo={algo}", f"env={env}", f"total_steps={steps}", f"seed={seed}", f"run_dir={run_dir}"]
        subprocess.run([sys.executable, "-m", "rlopt", "train", *overrides], check=True, capture_output=True)
        summary = json.loads(Path(run_dir, "summary.json").read_text())
        events = EventAccumulator(run_dir, size_guidance={"scalars": 0}).Reload()
        curve = [(event.step, event.value) for event in events.Scalars(CURVE[env])]
    print(f"{algo} {env} seed {seed}: {summary['evaluation_return']:.1f}", flush=True)
    return summary, curve


def collect(jobs: int) -> None:
    """Run everything and write the data."""
    rows = [(algo, env, steps, seed) for algo, env, steps, seeds, _ in RUNS for seed in seeds]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda row: train(*row), rows))
    RESULTS.mkdir(exist_ok=True)
    keys = ["algo", "env", "seed", "steps", "evaluation_return", "evaluation_std", "sampled_evaluation_return",
            "sampled_evaluation_std", "return_mean", "steps_per_second"]  # fmt: skip
    write_rows(RESULTS / "runs.csv", keys, [[summary[key] for key in keys] for summary, _ in results])
    points = [
        [algo, env, seed, step, f"{value:.6g}"]
        for (algo, env, _, seed), (_, curve) in zip(rows, results, strict=True)
        for step, value in curve
    ]
    write_rows(RESULTS / "curves.csv", ["algo", "environment", "seed", "step", "value"], points)


def table() -> str:
    """Evaluation returns of every row of RUNS, as Markdown."""
    rows = read_rows(RESULTS / "runs.csv")
    ids = {"cartpole": "CartPole-v1", "pendulum": "Pendulum-v1", "halfcheetah": "HalfCheetah-v5"}
    lines = ["| algo | environment | steps | seeds | evaluation return, mean (95% t interval) | lowest | each seed |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for algo, env, steps, _, _ in RUNS:
        values = [float(r["evaluation_return"]) for r in rows if (r["algo"], r["env"]) == (algo, ids[env])]
        low, high = trained.interval(values)
        each = ", ".join(f"{v:.0f}" for v in values)
        mean = f"{statistics.mean(values):.0f} ({low:.0f} to {high:.0f})"
        lines.append(f"| {algo} | {ids[env]} | {steps:,} | {len(values)} | {mean} | {min(values):.0f} | {each} |")
    return "\n".join(lines)


def draw() -> None:
    """curves.png: mean over seeds with a 95% t interval, an environment a panel."""
    rows = read_rows(RESULTS / "curves.csv")
    styles = {"trpo": ("#1f4e9c", "-"), "ppo": ("#c44e00", "--"), "npg": ("#5a8f29", "-."), "vpg": ("#666666", ":")}
    panels = [
        ("cartpole", "CartPole-v1", "episode return", 1.0, 500),
        ("pendulum", "Pendulum-v1", "episode return", 1.0, None),
        ("halfcheetah", "HalfCheetah-v5", "reward, last 1000 steps of each env.", 1000.0, None),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), constrained_layout=True)
    for axis, (env, title, label, scale, mark) in zip(axes, panels, strict=True):
        for algo, env_, steps, seeds, _ in RUNS:
            if env_ != env:
                continue
            grid = np.linspace(0, steps, 101)[1:]
            curves = []
            for seed in seeds:
                points = [r for r in rows if (r["algo"], r["environment"], r["seed"]) == (algo, env, str(seed))]
                x, y = [float(p["step"]) for p in points], [float(p["value"]) * scale for p in points]
                if CURVE[env] == "rollout/reward":  # all 64 episodes run in step: a mean over one episode's length
                    window = round(EPISODE * 64 / x[0])
                    y = np.convolve(y, np.ones(window) / window, "valid")
                    x = x[window - 1 :]
                curves.append(np.interp(grid, x, y, left=np.nan))
            data = np.array(curves)
            shown = ~np.isnan(data[0])
            grid, data = grid[shown], data[:, shown]
            bounds = np.array([trained.interval(list(column)) for column in data.T])
            color, line = styles[algo]
            axis.plot(grid / 1000, data.mean(0), line, color=color, label=f"{algo}, {len(data)} seeds", linewidth=1.8)
            axis.fill_between(grid / 1000, bounds[:, 0], bounds[:, 1], color=color, alpha=0.18, linewidth=0)
        if mark is not None:
            axis.axhline(mark, color="black", linewidth=0.6)
        axis.set(title=title, xlabel="thousand environment steps", ylabel=f"training {label}")
        axis.legend(frameon=False, loc="lower right")
        axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, HERE / "curves.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="The first learning curves.")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time (2)")
    parser.add_argument("--draw", action="store_true", help="only draw and tabulate what is there")
    options = parser.parse_args()
    if not options.draw:
        collect(options.jobs)
    draw()
    print(table())


if __name__ == "__main__":
    main()
