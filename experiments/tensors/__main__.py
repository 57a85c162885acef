"""Four tasks as tensors by four algorithms: scripts/reproduce tensors [--quick] [--draw] [--jobs N]

1,024 environments in one process, and for the time beside it 64 with env.backend=sync; then the table,
curves.png and the claims from results/.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt

from experiments._shared import style, trained
from experiments._shared.building import make_trainer
from experiments._shared.data import read_json, read_rows, write_json

HERE = Path(__file__).parent
SEEDS = range(1, 4)  # fixed before any of them was run; settings were tried on seed 100
HALVED = range(4, 9)  # of PPO on MountainCarContinuous, whose batch was halved after it had run with seeds 1 to 3
CARTPOLE = range(1, 6)  # seeds of experiment=cartpole_tensors, fixed before any of them was run here
TIMED = {"tensor": 196_608, "sync": 65_536}  # steps of the runs of which the time alone is wanted, by backend
COMMON = ("recipe=null", "env.num_envs=1024", "env.timeout=600")
CRITIC = ("critic.optimizer.lr=2e-3", "critic.schedule.epochs=5")
STYLES = {"trpo": "#c44e00", "npg": "#8a3fa0", "acktr": "#5a8f29", "ppo": "#1f4e9c"}


class Task(NamedTuple):
    """A task: the mean return it is to have, steps, options of all algorithms, and of each alone."""

    title: str
    bar: float
    steps: int
    options: tuple[str, ...]
    radius: float  # nats
    rates: tuple[float, int]  # PPO's learning rate and epochs
    minibatches: tuple[int, int]  # PPO's, and the critics'
    batches: tuple[int, int] = (16_384, 16_384)  # samples of an update: PPO's, and the others'
    rate: float = 1.0  # ACKTR's

    def of(self, algo: str) -> tuple[str, ...]:
        own, critics = self.minibatches
        minibatch = f"critic.schedule.minibatch={critics}"
        options = (*self.options, f"batch_size={self.batches[algo != 'ppo']}")
        if algo == "ppo":
            rate, epochs = self.rates
            return (*options, f"schedule.minibatch={own}", minibatch, f"optimizer.lr={rate:g}",
                    f"schedule.epochs={epochs}", "critic.optimizer.lr=2e-3")  # fmt: skip
        if algo == "acktr":
            return (
                *options,
                f"step.radius={self.radius:g}",
                f"step.rate={self.rate:g}",
                "critic.schedule.epochs=5",
            )
        return (*options, f"step.radius={self.radius:g}", *CRITIC, minibatch)


SYSTEM = (
    "env.kwargs.dimension=3",
    "env.kwargs.start_variance=1.0",
    "env.kwargs.noise_std=0.1",
    "evaluation.episodes=1000",
)  # whose mean has a standard error of .13
PLAN = {
    "pendulum": Task("Pendulum", -200, 655_360, ("env.stagger=true", "gamma=0.95"), 0.03, (1e-3, 10), (1024, 512)),
    "acrobot": Task("Acrobot", -90, 655_360, ("env.stagger=true", "gae_lambda=0.98"), 0.05, (1e-3, 10), (1024, 512)),
    "mountain_car_continuous": Task(
        "MountainCarContinuous", 90, 983_040,
        ("policy.head=gsde", "policy.noise_hold=16", "policy.initial_sigma=5", "gae_lambda=0.98"),
        0.02, (1e-3, 5), (4096, 1024), (32_768, 65_536),
    ),
    # the bar is 1.05 of the optimum's -14.51, which LQR.optimum has
    "lqr": Task(
        "LQR of three dimensions", -15.24, 983_040,
        ("policy=linear", *SYSTEM),
        0.05, (1e-2, 10), (1024, 512), rate=10.0,
    ),
}  # fmt: skip


def seeds(algo: str, task: Task) -> range:
    halved = algo == "ppo" and task.batches[0] < task.batches[1]
    return HALVED if halved else SEEDS


def planned(quick: bool) -> list[trained.Run]:
    """A seed of all cells at a time."""
    runs = []
    for seed in [0] if quick else sorted({*SEEDS, *HALVED}):
        for env, task in PLAN.items():
            for algo in STYLES:
                steps = 65_536 if quick else task.steps
                options = (f"algo={algo}", "env.backend=tensor", *COMMON, *task.of(algo))
                if quick or seed in seeds(algo, task):
                    runs.append(trained.Run(algo, env, steps, seed, options))
    return runs


def timed() -> list[trained.Run]:
    """Short runs of every cell with both backends, one after the other."""
    runs = []
    for env, task in PLAN.items():
        for algo in STYLES:
            for backend, steps in TIMED.items():
                options = [f"algo={algo}", f"env.backend={backend}", *COMMON, *task.of(algo)]
                if backend == "sync":
                    options = [o for o in options if o not in ("env.stagger=true", *COMMON)]
                    options += ["recipe=null", "env.num_envs=64", "workers=1"]
                runs.append(trained.Run(f"{algo} {backend}", env, steps, 1, tuple(options)))
    return runs


def speeds(rows: list[dict[str, str]], name: str, env: str) -> list[float]:
    return [float(r["steps_per_second"]) for r in rows if (r["name"], r["environment"]) == (name, env)]


def collections(repeats: int = 7) -> dict[str, dict[str, list[float]]]:
    """Steps a processor second of collection alone by task and number of environments; the kinds take turns."""
    found: dict[str, dict[str, list[float]]] = {}
    for env in ("cartpole", "pendulum"):
        kinds = {
            "sync, 8": ("sync", 8, 256),
            "tensor, 1024": ("tensor", 1024, 32),
            "tensor, 4096": ("tensor", 4096, 32),
            "tensor, 16384": ("tensor", 16384, 16),
        }
        runs = {
            name: make_trainer([f"env={env}", "algo=trpo", f"env.backend={backend}", f"env.num_envs={count}",
                                f"batch_size={count * steps}", "recipe=null", "workers=1"])
            for name, (backend, count, steps) in kinds.items()
        }  # fmt: skip
        found[env] = {name: [] for name in kinds}
        for turn in range(repeats + 1):
            for name, run in runs.items():
                began, taken = time.process_time(), 0
                while time.process_time() - began < 0.5:
                    taken += run.collector.collect(run.agent.policy(run.state)).steps  # type: ignore[arg-type]
                if turn:
                    found[env][name].append(taken / (time.process_time() - began))
        for run in runs.values():
            run.collector.close()
    return found


def table_of_collections(found: dict[str, dict[str, list[float]]]) -> str:
    lines = [
        "| collection, steps a processor second | sync, 8 | 1,024 tensors | times | 4,096 | times | 16,384 | times |",
        "|---" * 8 + "|",
    ]
    for env, kinds in found.items():
        sync, *others = kinds.values()
        cells = [f"{statistics.median(sync):,.0f}"]
        for values in others:
            ratios = [a / b for a, b in zip(values, sync, strict=True)]
            cells += [f"{statistics.median(values):,.0f}",
                      f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"]  # fmt: skip
        lines.append(f"| {env} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_cartpole(rows: list[dict[str, str]]) -> str:
    """The preset that is to solve CartPole within seconds, by seed."""
    own = sorted((r for r in rows if r["environment"] == "cartpole"), key=lambda r: int(r["seed"]))
    lines = ["| CartPole, seed | evaluation return | seconds of training |", "|---|---|---|"]
    for row in own:
        seconds = float(row["steps"]) / float(row["steps_per_second"])
        lines.append(f"| {row['seed']} | {float(row['evaluation_return']):.1f} | {seconds:.1f} |")
    return "\n".join(lines)


def table(rows: list[dict[str, str]]) -> str:
    lines = [
        "| task | bar | algorithm | steps | evaluation return, mean (95% t) | lowest | seeds | s | sync, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for env, task in PLAN.items():
        for algo in STYLES:
            if values := trained.evaluations(rows, algo, env):
                took = [task.steps / speed for kind in TIMED for speed in speeds(rows, f"{algo} {kind}", env)]
                seconds = " | ".join(f"{each:.0f}" for each in took) if len(took) == len(TIMED) else "- | -"
                shown = trained.mean_with_interval(values) if len(values) > 1 else f"{values[0]:.4g}"
                lines.append(f"| {task.title} | {task.bar:g} | {algo} | {task.steps:,} | {shown} | {min(values):.4g} | "
                             f"{len(values)} | {seconds} |")  # fmt: skip
    return "\n".join(lines)


def claims(rows: list[dict[str, str]]) -> list[tuple[str, bool]]:
    found = []
    for env, task in PLAN.items():
        for algo in STYLES:
            if values := trained.evaluations(rows, algo, env):
                mean = statistics.mean(values)
                found.append((f"{algo} on {task.title}: {mean:.4g}, {task.bar:g} asked for", mean >= task.bar))
    solved = [float(r["evaluation_return"]) for r in rows if r["environment"] == "cartpole"]
    reached = sum(value >= 475 for value in solved)
    found.append(
        (f"trpo on CartPole: {reached} of {len(solved)} seeds at 475", bool(solved) and reached == len(solved))
    )
    return found


def draw(points: list[dict[str, str]], picture: Path) -> None:
    figure, axes = plt.subplots(1, len(PLAN), figsize=(15, 3.8), constrained_layout=True)
    for axis, (env, task) in zip(axes, PLAN.items(), strict=True):
        for algo, color in STYLES.items():
            if found := trained.curves(points, algo, env):
                trained.band(axis, found, task.steps, algo, color=color)
        axis.axhline(task.bar, color="black", linewidth=0.6)
        axis.set(title=task.title, xlabel="thousand environment steps")
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_yscale("symlog")
    axes[-1].set_ylim(-4000, -10)
    axes[0].set_ylabel("training episode return")
    axes[0].legend(frameon=False, fontsize=8)
    style.save(figure, picture, dpi=110)


def main() -> int:
    options = trained.parser("Four tasks as tensors.", "one seed, 65,536 steps").parse_args()
    results, out = trained.places(HERE, options.quick)
    if not options.draw:
        alone = [trained.Run("trpo", "cartpole", 524_288, seed, ("experiment=cartpole_tensors",)) for seed in CARTPOLE]
        trained.collect([] if options.quick else [*alone, *timed()], results, 1)  # with nothing beside them
        write_json(results / "collection.json", collections(1 if options.quick else 7))
        trained.collect(planned(options.quick), results, options.jobs)
    rows = read_rows(results / "runs.csv")
    if not options.quick:
        draw(read_rows(results / "curves.csv"), out / "curves.png")
    parts = (table(rows), table_of_cartpole(rows), table_of_collections(read_json(results / "collection.json")))
    return trained.finish(HERE, options.quick, "\n\n".join(parts), [] if options.quick else claims(rows))


if __name__ == "__main__":
    raise SystemExit(main())
