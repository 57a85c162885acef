"""Several agents by parameter sharing: scripts/reproduce several_agents [--quick] [--draw] [--jobs N]

Trains PPO on simple_spread, in mpe2's game and in a copy of it as tensors, with seeds 1 to 3; lets the policies of the
copy and two scripted ones play mpe2's game; and writes the table, curves.png and the claims from results/.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt

import rlopt
from experiments._shared import style, trained
from experiments._shared.data import append_rows, exists, read_rows
from experiments.several_agents.scripted import POLICIES, play

HERE = Path(__file__).parent
RUNS = HERE.parents[1] / "runs/several_agents"  # of policies from the copy; they are not made again
PARTS = HERE / "parts"
SEEDS = range(1, 4)  # fixed before any of them was run; settings were tried on seed 0
STEPS = 480_000  # of agents: 160,000 of the game
LONG = 7_680_000  # in the copy
GAMES = 200  # of each policy that plays mpe2's game
AGENTS = 3
PUBLISHED = (-133.54 + AGENTS * 25) / 2 / AGENTS  # MAPPO's, quoted from memory, see the page
ENV = "pettingzoo"
SETTINGS = (
    "algo=ppo", "env.id=mpe2.simple_spread_v3", "env.num_envs=16", "env.agent_index=true", "batch_size=2400",
    "gamma=0.95", "optimizer.lr=1e-3", "critic.optimizer.lr=1e-3",
    "schedule.minibatch=240", "critic.schedule.minibatch=240",
    "scheduler.total_iters=300", "critic.scheduler.total_iters=300",  # updates, of which STEPS are 200
)  # fmt: skip
NAMES = {"ppo": "PPO in mpe2's game", "copy": "PPO in the copy"}
COPY = (
    "algo=ppo", "env=spread", "gamma=0.95", "optimizer.lr=1e-3", "critic.optimizer.lr=1e-3",
    "schedule.minibatch=4096", "critic.schedule.minibatch=4096", "evaluation.episodes=0",
)  # fmt: skip


def learned(seed: int, steps: int, games: int) -> tuple[float, list[tuple[int, float]]]:
    """The return of an agent in mpe2's game, by the mode of a policy from the copy, and its training curve."""
    run_dir = RUNS / f"{steps}-{seed}"
    if not (run_dir / "summary.json").exists():
        typed = [
            "train",
            "--extensions",
            str(PARTS),
            *COPY,
            f"seed={seed}",
            f"total_steps={steps}",
            f"run_dir={run_dir}",
        ]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "rlopt", *typed], check=True, capture_output=True, env=alone)
    policy = rlopt.load(run_dir, extensions=[PARTS])
    found = play(lambda seen, *_: ({agent: int(policy(row)) for agent, row in seen.items()}, None), games)
    curve = [(int(row["step"]), float(row["episode/return"])) for row in read_rows(run_dir / "scalars.csv")]
    print(f"seed {seed}: {found:.4g} in mpe2's game, {curve[-1][1]:.4g} at the end of training", flush=True)
    return found, trained.thinned(curve)


def share(value: float, scripted: list[dict[str, str]]) -> float:
    """How far a return is from that of random actions to that of the assignment: 0 to 1."""
    ends = {row["policy"]: float(row["return"]) for row in scripted}
    return (value - ends["random"]) / (ends["assignment"] - ends["random"])


def table(rows: list[dict[str, str]], scripted: list[dict[str, str]]) -> str:
    """Mean returns of an agent and of the game, as Markdown."""
    lines = ["| policy | return of an agent | of all three | share of the way |", "|---|---|---|---|"]
    for row in scripted:
        mean = float(row["return"])
        title = f"{row['policy']}, {row['games']} games"
        lines.append(f"| {title} | {mean:.4g} | {AGENTS * mean:.4g} | {share(mean, scripted):.0%} |")
    lines.append(
        f"| MAPPO, as quoted above | {PUBLISHED:.4g} | {AGENTS * PUBLISHED:.4g} | {share(PUBLISHED, scripted):.0%} |"
    )
    for name, title in NAMES.items():
        if values := [float(row["evaluation_return"]) for row in rows if row["name"] == name]:
            mean = statistics.mean(values)
            found = trained.mean_with_interval(values) if len(values) > 1 else f"{mean:.4g}"
            each = f"{title}, {len(values)} seeds, mean (95% t)"
            lines.append(f"| {each} | {found} | {AGENTS * mean:.4g} | {share(mean, scripted):.0%} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """That the policies from the copy have the published return in mpe2's game."""
    values = [float(row["evaluation_return"]) for row in rows if row["name"] == "copy"]
    shown = ", ".join(f"{value:.4g}" for value in values)
    return [(f"a mean of {PUBLISHED:.4g} in mpe2's game: the seeds have {shown}", statistics.mean(values) >= PUBLISHED)]


def draw(results: Path, scripted: list[dict[str, str]], picture: Path) -> None:
    points = read_rows(results / "curves.csv")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True, constrained_layout=True)
    for axis, (name, title), env in zip(axes, NAMES.items(), (ENV, "spread"), strict=True):
        if found := trained.curves(points, name, env):
            steps = int(max(max(x) for x, _ in found.values()))
            trained.band(axis, found, steps, title, color="#1f4e9c")
        for label, value in [*((row["policy"], float(row["return"])) for row in scripted), ("MAPPO", PUBLISHED)]:
            axis.axhline(value, color="black", linewidth=0.6)
            axis.text(0, value, label, fontsize=8, va="bottom")
        axis.set(xlabel="thousand steps of agents", title=title)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("training return of an agent")
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("Several agents by parameter sharing.", "one seed, few steps").parse_args()
    results, out = trained.places(HERE, options.quick)
    steps, long, seeds, games = (9_600, 153_600, range(1), 20) if options.quick else (STEPS, LONG, SEEDS, GAMES)
    if not options.draw:
        trained.collect([trained.Run("ppo", ENV, steps, seed, SETTINGS) for seed in seeds], results, options.jobs)
        there = {row["seed"] for row in read_rows(results / "runs.csv") if row["name"] == "copy"}
        wanted = [seed for seed in seeds if str(seed) not in there]
        with ThreadPoolExecutor(options.jobs) as pool:
            done = list(pool.map(lambda seed: learned(seed, long, games), wanted))
        header = list(read_rows(results / "runs.csv")[0])
        for seed, (value, curve) in zip(wanted, done, strict=True):
            known = {"name": "copy", "environment": "spread", "seed": seed, "steps": long, "evaluation_return": value}
            append_rows(results / "runs.csv", header, [[known.get(key) for key in header]])
            points = [["copy", "spread", seed, step, f"{at:.6g}"] for step, at in curve]
            append_rows(results / "curves.csv", ["name", "environment", "seed", "step", "return"], points)
        if not exists(results / "scripted.csv"):
            found = [[name, games, f"{play(policy, games):.6g}"] for name, policy in POLICIES.items()]
            append_rows(results / "scripted.csv", ["policy", "games", "return"], found)
    rows, scripted = (read_rows(results / f"{name}.csv") for name in ("runs", "scripted"))
    draw(results, scripted, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows, scripted), claims(rows))


if __name__ == "__main__":
    raise SystemExit(main())
