"""A policy part-way through its training, for experiments that look at one: `rlopt train`'s own run, then its pieces.

point = policies.point(policies.trained(folder, "cartpole", steps=12_000, seed=0, hidden=16), samples=2048)
x = policies.solve(policies.part("solver", "kfac"), point.curvature("fisher"), point.g, damping=0.01)
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments._shared.building import make_trainer
from rlopt.config import check_config
from rlopt.config.saved import load_run, read_choice
from rlopt.config.schema import construct_part
from rlopt.core.curvature import Curvature
from rlopt.core.parts import Solver
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.core.update import Update
from rlopt.training.restore import fresh_samples, restore_run


def trained(folder: Path, env: str, steps: int, seed: int, hidden: int, *overrides: str) -> Path:
    """TRPO in float64 with two hidden layers, stopped after ``steps``; its run directory, which is made once."""
    run_dir = folder / f"{env}-{hidden}-{steps}-{seed}"
    if not (run_dir / "summary.json").exists():
        given = [f"env={env}", "algo=trpo", f"total_steps={max(steps, 1)}", f"seed={seed}", f"run_dir={run_dir}",
                 f"policy.hidden=[{hidden},{hidden}]", "dtype=float64", "evaluation.episodes=0",
                 "workers=1"]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            make_trainer([*given, *overrides]).run()
    return run_dir


@dataclass(frozen=True)
class Point:
    """One theta (P,), one batch, and the objective's gradient g (P,) there."""

    update: Update
    theta: Tensor
    samples: Samples
    tape: Tape
    g: Tensor

    def curvature(self, metric: str, **options: Any) -> Curvature:
        bound = part("metric", metric, **options)
        update = self.update
        return bound.bind(bound.init(), self.tape, update.head, self.samples, update.objective)[0]

    def gradient(self) -> Tensor:
        """g (P,) anew: one forward and one backward pass."""
        return _gradient(self.update, self.theta, self.samples)[1]


@torch.no_grad()
def point(run_dir: Path, samples: int, seed: int = 0) -> Point:
    """The newest checkpoint's policy, on a batch of its own that ``seed`` names."""
    run, _ = restore_run(check_config(load_run(run_dir)), run_dir)
    update, theta = run.agent.actor.update, run.state["actor"]["theta"]
    return at(update, theta, fresh_samples(run, samples, seed))


@torch.no_grad()
def at(update: Update, theta: Tensor, batch: Samples) -> Point:
    return Point(update, theta, batch, *_gradient(update, theta, batch))


def part(group: str, name: str, **options: Any) -> Any:
    """A part of rlopt by its name in conf/, with some of its options given."""
    return construct_part({**read_choice(group, name), **options}, group)


@torch.no_grad()
def solve(solver: Solver, curvature: Curvature, g: Tensor, damping: float) -> Tensor:
    """x (P,), by a solver without history."""
    return solver.prepare(solver.init(), curvature, damping)[0](g).x


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a, b) / (a.norm() * b.norm()))


def _gradient(update: Update, theta: Tensor, samples: Samples) -> tuple[Tape, Tensor]:
    tape = update.network.tape(theta, samples.inputs)
    _, slopes = update.objective.values_and_gradient(update.head, tape.outputs, samples)
    return tape, tape.vjp(slopes * samples.share[:, None])
