"""What the parts of an update cost, in units of one autograd gradient: scripts/bench --only parts [--quick]

17-64-64-6 tanh Gaussian policy, 2048 samples, float32, one thread; K = 1 (the empirical Fisher metric, one factor a
sample) unless a line says analytic (the analytic Fisher metric, K = 6 in the network). All kinds take turns in one run,
and times are the thread's own processor time. A solver's line is what `prepare` costs on a tape that stands, or the
whole solve where `prepare` alone does nothing. Bounds are what this project asks of itself.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from experiments.speed import report
from experiments.speed.setting import INPUTS, Setting, machine, microseconds, ratio, spread
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity
from rlopt.core.network import Network
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.value import Value as ValueObjective
from rlopt.core.samples import Samples
from rlopt.core.solvers.block import Block
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.identity import Identity as NoSolver
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kfra import KFRA
from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.solvers.low_rank import LowRank
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update
from rlopt.parallel.processes import use_one_thread

DAMPING = 1e-2
BOUNDS = {  # in gradients
    "K-FAC apply": 0.03,
    "K-FAC factors": 1.0,
    "exact diagonal": 0.7,
    "CG-10": 6.0,
}
EKFAC_BOUND = 3.0  # E-KFAC's preparation in K-FAC's


def kinds() -> dict[str, Callable[[], object]]:
    """Everything that is measured, by name."""
    at = Setting()
    empirical, analytic = (
        metric.bind(metric.init(), at.tape, at.head, at.samples, None)[0]  # type: ignore[arg-type]
        for metric in (EmpiricalFisher(), Fisher(None, 0))
    )
    few = at.samples.take(slice(0, 256))
    small = EmpiricalFisher().bind({}, at.network.tape(at.theta, few.inputs), at.head, few, None)[0]  # type: ignore[arg-type]
    cg, kfac = CG(10, 0.0, None, "cold", 0.0), KFAC("exact", 0.0, 1, 1)
    ekfac, kfra = EKFAC(0.0, 0.0, 1, 256), KFRA("exact", 0.0, 1)
    apply, state = kfac.prepare(kfac.init(), empirical, DAMPING)

    def prepare(solver: Any, curvature: Any = empirical) -> Callable[[], object]:
        return lambda: solver.prepare(solver.init(), curvature, DAMPING)

    def solve(solver: Any, curvature: Any = empirical) -> Callable[[], object]:
        return lambda: solver.prepare(solver.init(), curvature, DAMPING)[0](at.v)

    return {
        "gradient": at.gradient,
        "flat gradient": at.flat_gradient,
        "forward pass (a tape)": lambda: at.network.tape(at.theta, at.samples.inputs),
        "Fisher product": lambda: empirical.product(at.v),
        "Fisher product, analytic": lambda: analytic.product(at.v),
        "CG-10": solve(cg),
        "CG-10, analytic": solve(cg, analytic),
        "K-FAC factors": lambda: kronecker.statistics(empirical, kronecker.factors),
        "K-FAC factors, analytic": lambda: kronecker.statistics(analytic, kronecker.factors),
        "K-FAC eigendecompositions": lambda: kronecker.decompose({**state, "age": 0}, 1),
        "K-FAC prepare": prepare(kfac),
        "K-FAC prepare, analytic": prepare(kfac, analytic),
        "K-FAC apply": lambda: apply(at.v),
        "K-FAC apply, with its residual": lambda: apply(at.v).residual,
        "E-KFAC prepare": prepare(ekfac),
        "E-KFAC prepare, analytic": prepare(ekfac, analytic),
        "KFRA prepare, analytic": prepare(kfra, analytic),
        "exact diagonal": solve(Diagonal("exact", 1, 0, 256)),
        "exact diagonal, analytic": solve(Diagonal("exact", 1, 0, 256), analytic),
        "block by incoming weights": solve(Block("incoming", 256, False, 0.0, None)),
        "low rank 10, 20 products": solve(LowRank(10, 20, "gradient", 0, "none", 256)),
        "gram, 256 samples": solve(Gram(16384, "network"), small),
        "critic epoch, 16 minibatches of 128": critic_epoch(at),
        "policy minibatch of 64, clipped, Adam": minibatch(at),
    }


def critic_epoch(at: Setting) -> Callable[[], object]:
    width = 64
    module = nn.Sequential(nn.Linear(INPUTS, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
    network = Network(module)
    update = Update(network, Value(), ValueObjective(), Identity(), NoSolver(), Constant(0.0), adam())
    learner, theta = Learner(update, Schedule(1, 128, None)), network.layout.flatten(module)
    samples = Samples(at.samples.inputs, torch.randn(len(at.samples), 1), at.samples.weight)
    state, generator = learner.init(theta), torch.Generator().manual_seed(0)
    return lambda: learner.run(theta, state, samples, generator, 1)


def minibatch(at: Setting) -> Callable[[], object]:
    update = Update(at.network, at.head, Clipped(0.2, 0.0), Identity(), NoSolver(), Constant(0.0), adam())
    theta, samples = at.theta.clone(), at.samples.take(slice(0, 64))
    state = update.init(theta)
    return lambda: update(theta, state, samples)


def adam() -> Optimizer:
    return Optimizer(
        {"_target_": "torch.optim.Adam", "lr": 1e-5},
        {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0},
        None,
    )


def show(data: dict[str, Any]) -> None:
    times = data["microseconds"]
    print(f"\n{data['machine']}; load {data['load'][0]:.1f} to {data['load'][1]:.1f}\n")
    print(f"{'':<40}{'microseconds, median (range)':<34}{'in gradients':>13}{'in flat ones':>13}{'bound':>8}")
    for name, values in times.items():
        units = "".join(f"{ratio(values, times[unit]):>13.3f}" for unit in ("gradient", "flat gradient"))
        print(f"{name:<40}{spread(values):<34}{units}{BOUNDS.get(name, ''):>8}")
    both = [ratio(times[f"E-KFAC {what}"], times[f"K-FAC {what}"]) for what in ("prepare", "prepare, analytic")]
    print(f"E-KFAC against K-FAC, prepare: {both[0]:.2f}, analytic {both[1]:.2f} (bound {EKFAC_BOUND:g})")


@torch.no_grad()
def main() -> None:
    parser = report.parser("parts", "Costs of the parts of an update, in gradients.")
    parser.add_argument("--repeats", type=int, default=41, help="rounds (41)")
    options = parser.parse_args()
    if options.draw:
        return report.again("parts")
    use_one_thread()
    before = os.getloadavg()[0]
    times = microseconds(kinds(), 5 if options.quick else options.repeats)
    data = {
        "machine": machine(),
        "load": [before, os.getloadavg()[0]],
        "microseconds": times,
        "in gradients": {name: ratio(values, times["gradient"]) for name, values in times.items()},
        "bounds": BOUNDS,
        "medians": {name: statistics.median(values) for name, values in times.items()},
    }
    show(data)
    if not options.quick:
        report.keep("parts", data)


if __name__ == "__main__":
    main()
