"""Memory where observations hide what matters: scripts/reproduce memory [--quick] [--draw] [--only ENV] [--jobs N]

Trains what PLAN names, with a GRU and without memory, then writes the table, curves.png and the claims from results/.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.data import read_rows

HERE = Path(__file__).parent
SEEDS = range(1, 6)  # fixed before any of them was run; settings were tried on seed 0
LATER = range(6, 11)  # of settings that were chosen after SEEDS, on seeds 100 to 103
LAST = range(11, 16)  # of those that were chosen after LATER, on the same
FALLS = "scheduler=linear"  # the step falls to 0 over the run
GRU = ("policy=gru", "critic=gru")
FAR = ("schedule.sequence=64", "critic.schedule.sequence=64", "objective.entropy=0.03")  # an episode has 21 steps
STYLES = {"ppo": "#1f4e9c", "trpo": "#c44e00", "acktr": "#5a8f29"}


class Setting(NamedTuple):
    """What an algorithm is given besides the preset, and the seeds that were run with it."""

    options: tuple[str, ...]
    seeds: range = SEEDS


class Task(NamedTuple):
    """An environment: what its mean return is to be, the steps, and each algorithm's setting."""

    title: str
    bar: float
    steps: int
    settings: dict[str, Setting]
    shown: tuple[float, float]  # returns that the figure shows


BATCHES = "schedule.minibatch=256", "critic.schedule.minibatch=256"
CRITIC = ("critic.schedule.minibatch=256",)
PLAN = {
    "cartpole_positions": Task("CartPole without velocities", 475, 500_000, {
        "ppo": Setting((*BATCHES, FALLS), LATER),
        "trpo": Setting(CRITIC),
        "acktr": Setting((FALLS, "critic.schedule.epochs=10"), LAST),
    }, (0, 520)),
    "pendulum_position": Task("Pendulum without its velocity", -250, 500_000, {
        "ppo": Setting((*BATCHES, "optimizer.lr=1e-3", "critic.optimizer.lr=1e-3", "gamma=0.95")),
        "trpo": Setting((*CRITIC, "critic.optimizer.lr=1e-3", "gamma=0.95", "gae_lambda=0.9", FALLS), LAST),
        "acktr": Setting(("critic.schedule.epochs=10", "gamma=0.95", FALLS), LATER),
    }, (-1500, 0)),
    "t_maze": Task("T-maze of length 20", 0.95, 200_000, {
        "ppo": Setting((*FAR, "schedule.minibatch=512", "critic.schedule.minibatch=512")),
        "trpo": Setting((*FAR, *CRITIC)),
    }, (-2.5, 1.1)),
}  # fmt: skip


def planned(quick: bool, only: str | None) -> list[trained.Run]:
    """With a GRU every setting; without memory the same but for what is of sequences."""
    found = []
    for env, task in PLAN.items():
        for algo, setting in task.settings.items():
            plain = tuple(option for option in setting.options if ".sequence" not in option)
            seeds = range(1) if quick else setting.seeds
            for name, overrides in ((f"{algo} gru", (*GRU, *setting.options)), (f"{algo} without", plain)):
                for seed in seeds if only in (None, env) else ():
                    steps = 10_000 if quick else task.steps
                    found.append(trained.Run(name, env, steps, seed, (f"algo={algo}", *overrides)))
    return found


def table(rows: list[dict[str, str]]) -> str:
    """Evaluation returns, as Markdown."""
    lines = [
        "| environment | asked | algo | with a GRU, mean (95% t) | lowest | seeds | without memory | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for env, task in PLAN.items():
        for algo in task.settings:
            values, without = (trained.evaluations(rows, f"{algo} {kind}", env) for kind in ("gru", "without"))
            if values and without:
                found = f"{trained.mean_with_interval(values)} | {min(values):.4g} | {len(values)}"
                other = f"{statistics.mean(without):.4g} | {len(without)}"
                lines.append(f"| {task.title} | {task.bar:g} | {algo} | {found} | {other} |")
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """That the GRU reaches what is asked for, and the policy without memory does not."""
    found = []
    for env, task in PLAN.items():
        for algo in task.settings:
            values, without = (trained.evaluations(rows, f"{algo} {kind}", env) for kind in ("gru", "without"))
            if values and without:
                mean, other = statistics.mean(values), statistics.mean(without)
                said = f"{algo} on {env}: {mean:.4g} with a GRU, {other:.4g} without, {task.bar:g} asked for"
                found.append((said, mean >= task.bar > other))
    return found


def draw(results: Path, picture: Path) -> None:
    points = read_rows(results / "curves.csv")
    figure, axes = plt.subplots(1, 3, figsize=(14, 4), constrained_layout=True)
    for axis, (env, task) in zip(axes, PLAN.items(), strict=True):
        for algo in task.settings:
            for kind, line in (("gru", "-"), ("without", ":")):
                if found := trained.curves(points, f"{algo} {kind}", env):
                    trained.band(axis, found, task.steps, f"{algo} {kind}", color=STYLES[algo], linestyle=line)
        axis.axhline(task.bar, color="black", linewidth=0.6)
        axis.set(
            title=task.title, ylim=task.shown, xlabel="thousand environment steps", ylabel="training episode return"
        )
        axis.legend(frameon=False, fontsize=8, loc="center right")
        axis.spines[["top", "right"]].set_visible(False)
    style.save(figure, picture, dpi=110)


def main() -> int:
    parser = trained.parser("Memory where observations hide what matters.", "10,000 steps of the T-maze")
    parser.add_argument("--only", choices=list(PLAN), help="one environment")
    options = parser.parse_args()
    results, out = trained.places(HERE, options.quick)
    if not options.draw:
        only = options.only or ("t_maze" if options.quick else None)
        trained.collect(planned(options.quick, only), results, options.jobs)
    rows = read_rows(results / "runs.csv")
    draw(results, out / "curves.png")
    return trained.finish(HERE, options.quick, table(rows), claims(rows))


if __name__ == "__main__":
    raise SystemExit(main())
