"""The geometries that are compared, and one run of one of them, in a process of its own."""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from experiments._shared.building import make_trainer
from experiments._shared.data import read_rows
from rlopt.parallel.processes import use_one_thread
from rlopt.training.callbacks import Callbacks, RunContext

RADII = (0.005, 0.01, 0.02, 0.04, 0.08)  # nats; fixed before any run
RATES = (1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3)  # of Adam in epochs of minibatches; likewise
LAST = 0.1  # of the steps: the score is the mean return of the episodes that end in them
POINTS = 30  # of a curve

# the critic, the batch and all else are TRPO's; the radius alone is the length of a step. Where lambda |x|^2 is above
# 3 q, which happens with K-FAC, E-KFAC, CG and Kaczmarz alone, the step has less KL than that, see steps.kl_clip
COMMON = ("algo=trpo", "recipe=null", "env.num_envs=16", "workers=1", "evaluation.episodes=0", "record.csv=true",
          "record.waste_every=25", "record.tensorboard=false", "record.histograms_every=null",
          "checkpoint.every_seconds=null")  # fmt: skip
EQUAL_KL = ("step=kl_clip", "step.rate=1000", "step.momentum=0")
ADAM = ("solver=soap", "solver.largest=1")  # SOAP that turns no side
STATISTICS = (*EQUAL_KL, "metric=gradient_statistics")
FISHER = (*EQUAL_KL, "metric=fisher")


class Method(NamedTuple):
    """One geometry of the actor's update: a row of the tables. One line here is all that a new one needs."""

    title: str
    overrides: tuple[str, ...]
    option: str = "step.radius"  # that is searched
    grid: tuple[float, ...] = RADII


METHODS = {
    "gradient": Method("gradient", (*EQUAL_KL, "metric=identity", "solver=identity")),
    "adam": Method("Adam", (*STATISTICS, *ADAM)),
    "muon": Method("Muon", (*STATISTICS, "solver=muon")),
    "soap": Method("SOAP", (*STATISTICS, "solver=soap")),
    "shampoo": Method("Shampoo", (*STATISTICS, "solver=shampoo")),
    "kron": Method("PSGD Kron", (*STATISTICS, "solver=kron")),
    "kfac": Method("K-FAC", (*FISHER, "solver=kfac", "damping=acktr")),
    "kfac_spring": Method("K-FAC, SPRING", (*FISHER, "solver=spring", "solver.of=kfac", "damping=acktr")),
    "ekfac": Method("E-KFAC", (*FISHER, "solver=ekfac", "damping=acktr")),
    "ekfac_spring": Method("E-KFAC, SPRING", (*FISHER, "solver=spring", "solver.of=ekfac", "damping=acktr")),
    "cg": Method("Fisher-CG", (*FISHER, "solver=cg")),
    "cg_spring": Method("Fisher-CG, SPRING", (*FISHER, "solver=spring", "solver.of=cg")),
    "kaczmarz": Method("Kaczmarz", (*FISHER, "solver=kaczmarz")),
    "kaczmarz_spring": Method("Kaczmarz, SPRING", (*FISHER, "solver=spring", "solver.of=kaczmarz")),
    "ppo": Method("PPO's Adam, 10 epochs of 64",
                  ("objective=clipped", "metric=identity", "solver=identity", "step=ppo", "schedule=ppo"),
                  "step.optimizer.lr", RATES),
}  # fmt: skip


class Run(NamedTuple):
    """One training run of a method, with its radius or rate."""

    method: str
    environment: str
    value: float
    seed: int
    steps: int

    @property
    def overrides(self) -> list[str]:
        method = METHODS[self.method]
        return [*COMMON, *method.overrides, f"{method.option}={self.value!r}", f"env={self.environment}",
                f"seed={self.seed}", f"total_steps={self.steps}"]  # fmt: skip


class Outcome(NamedTuple):
    """What a run came to. Seconds are of the processor: environments, actor and critic, on one thread."""

    score: float
    kl: float  # nats, mean over updates, as measured
    waste: float  # the share of KL that is off the natural gradient, mean over every 25th update
    residual: float  # |g - F n| / |g| of the natural gradient n that it is measured with, likewise
    seconds: float
    skipped: int
    curve: list[tuple[int, float, float]]  # steps, seconds, return of the episodes that ended since the point before


def train(run: Run) -> Outcome:
    use_one_thread()
    points: list[tuple[int, float, float]] = []

    def keep(context: RunContext, scalars: Mapping[str, float]) -> None:
        if "episode/return" in scalars:
            points.append((context.steps, time.process_time() - began, scalars["episode/return"]))

    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        made = make_trainer([*run.overrides, f"run_dir={folder}/run"])
        made.callbacks = Callbacks(on_update=keep)
        began = time.process_time()
        made.run()
        seconds = time.process_time() - began
        rows = read_rows(Path(folder) / "run/scalars.csv")
    kl, waste, residual = (mean(rows, name) for name in ("step/kl", "step/waste", "step/waste_residual"))
    skipped = int(float(rows[-1]["update/skipped"]))
    return Outcome(score(points, run.steps), kl, waste, residual, seconds, skipped, thinned(points))


def mean(rows: list[dict[str, str]], name: str) -> float:
    """Of a column, where it has a number; NaN where it has none."""
    found = [float(row[name]) for row in rows if row.get(name)]
    return statistics.fmean(found) if found else float("nan")


def score(points: list[tuple[int, float, float]], steps: float) -> float:
    """The mean return of the last tenth of ``steps``; the last point's where no episode ended there."""
    late = [value for step, _, value in points if (1 - LAST) * steps < step <= steps]
    before = [value for step, _, value in points if step <= steps]
    return statistics.fmean(late) if late else before[-1] if before else float("nan")


def thinned(points: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """At most POINTS points, each the mean return of those it stands for, at the last one's step and time."""
    size = max(1, -(-len(points) // POINTS))
    parts = [points[i : i + size] for i in range(0, len(points), size)]
    return [(part[-1][0], part[-1][1], statistics.fmean(value for _, _, value in part)) for part in parts]
