"""Several agents by parameter sharing: scripts/reproduce several_agents [--quick] [--draw] [--jobs N]

Trains PPO on simple_spread with seeds 1 to 3, plays two scripted policies in the same game, and writes the table,
curves.png and the claims from results/.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import append_rows, exists, read_rows
from experiments.several_agents.scripted import POLICIES, play

HERE = Path(__file__).parent
SEEDS = range(1, 4)  # fixed before any of them was run; settings were tried on seed 0
STEPS = 480_000  # of agents: 160,000 of the game
GAMES = 200  # of each scripted policy
AGENTS = 3
ENV = "pettingzoo"
SETTINGS = (
    "algo=ppo", "env.id=mpe2.simple_spread_v3", "env.num_envs=16", "env.agent_index=true", "batch_size=2400",
    "gamma=0.95", "optimizer.lr=1e-3", "critic.optimizer.lr=1e-3",
    "schedule.minibatch=240", "critic.schedule.minibatch=240",
    "scheduler.total_iters=300", "critic.scheduler.total_iters=300",  # updates, of which STEPS are 200
)  # fmt: skip


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
    if values := trained.evaluations(rows, "ppo", ENV):
        mean, title = statistics.mean(values), f"PPO, {len(values)} seeds, mean (95% t)"
        found = trained.mean_with_interval(values) if len(values) > 1 else f"{mean:.4g}"
        lines.append(f"| {title} | {found} | {AGENTS * mean:.4g} | {share(mean, scripted):.0%} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]], scripted: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """That every seed comes 40% of the way from random actions to the planned assignment."""
    shares = [share(value, scripted) for value in trained.evaluations(rows, "ppo", ENV)]
    shown = ", ".join(f"{found:.0%}" for found in shares)
    return [(f"40% of the way from random actions to the assignment: the seeds came {shown}", min(shares) >= 0.4)]


def draw(results: Path, scripted: list[dict[str, str]], steps: int, picture: Path) -> None:
    figure, axis = plt.subplots(figsize=(6.5, 4), constrained_layout=True)
    trained.band(axis, trained.curves(read_rows(results / "curves.csv"), "ppo", ENV), steps, "PPO", color="#1f4e9c")
    for row in scripted:
        axis.axhline(float(row["return"]), color="black", linewidth=0.6)
        axis.text(0, float(row["return"]), row["policy"], fontsize=8, va="bottom")
    axis.set(xlabel="thousand steps of agents", ylabel="training return of an agent")
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("Several agents by parameter sharing.", "one seed, 9,600 steps").parse_args()
    results, out = trained.places(HERE, options.quick)
    steps, seeds, games = (9_600, range(1), 20) if options.quick else (STEPS, SEEDS, GAMES)
    if not options.draw:
        trained.collect([trained.Run("ppo", ENV, steps, seed, SETTINGS) for seed in seeds], results, options.jobs)
        if not exists(results / "scripted.csv"):
            found = [[name, games, f"{play(policy, games):.6g}"] for name, policy in POLICIES.items()]
            append_rows(results / "scripted.csv", ["policy", "games", "return"], found)
    rows, scripted = (read_rows(results / f"{name}.csv") for name in ("runs", "scripted"))
    draw(results, scripted, steps, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows, scripted), claims(rows, scripted))


if __name__ == "__main__":
    raise SystemExit(main())
