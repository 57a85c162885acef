"""How time and memory grow with batch, width and parameters: scripts/bench --only growth [--training] [--quick]

Time: 17-w-w-6 tanh Gaussian policy, float32, one thread's processor time, least of the repeats. An update is TRPO's:
forward pass, gradient, CG-10 with the analytic Fisher metric, line search; or the same with K-FAC.
Memory: bytes of tensors made and alive at once (`rlopt.inspection.memory`), exact and the same on every machine, in
units of the activations that the forward pass caches, all layers' outputs.
Solvers: `prepare` and one solve at 64 samples, K = 1, for networks 17-w-w-6 of about 5, 50 and 500 thousand parameters.
With ``--training`` instead: whole training runs with one process, two workers and two ranks, and their rates by
environments, batch and width (`training`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments._shared.data import exists, read_json, write_json
from experiments.speed import report, training
from experiments.speed.parts import DAMPING
from experiments.speed.setting import Setting, machine, seconds
from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.block import Block
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kfra import KFRA
from rlopt.core.solvers.low_rank import LowRank
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.update import Update
from rlopt.inspection.memory import NewTensors
from rlopt.parallel.processes import use_one_thread

RESULTS = Path(__file__).parent / "results/growth.json"
BATCHES, WIDTHS = (2048, 8192, 32768, 131072), (64, 256, 1024)
CG10, KRONECKER = CG(10, 0.0, None, "cold", 0.0), KFAC("exact", 0.0, 1, 1)
SOLVERS: dict[str, Any] = {
    "cg": CG10,
    "low_rank": LowRank(10, 20, "gradient", 0, "none", 256),
    "gram": Gram(16384, "network"),
    "diagonal": Diagonal("exact", 1, 0, 256),
    "kfac": KRONECKER,
    "ekfac": EKFAC(0.0, 0.0, 1, 256),
    "kfra": KFRA("exact", 0.0, 1),
    "block by incoming": Block("incoming", 16, False, 0.0, None),
}
HIDDEN = (64, 212, 695)  # of 5.7, 50.3 and 500 thousand parameters


def kinds(count: int, width: int) -> dict[str, Callable[[], object]]:
    at = Setting(count, width)
    analytic = Fisher(None, 0).bind({}, at.tape, at.head, at.samples, None)[0]  # type: ignore[arg-type]

    def update(solver: Any) -> Callable[[], object]:
        step = KLLineSearch(0.01, 0.8, 10, 0.0, 100.0)
        whole = Update(at.network, at.head, Surrogate(0.0), Fisher(None, 0), solver, Constant(DAMPING), step)
        state = whole.init(at.theta)
        return lambda: whole(at.theta, state, at.samples)

    return {
        "Fisher product": lambda: analytic.product(at.v),
        "CG-10": lambda: CG10.prepare({}, analytic, DAMPING)[0](at.v),
        "K-FAC": lambda: KRONECKER.prepare(KRONECKER.init(), analytic, DAMPING)[0](at.v),
        "TRPO update": update(CG10),
        "TRPO update with K-FAC": update(KRONECKER),
    }


def measure(count: int, width: int, repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds and peak bytes by kind."""
    found = {}
    for name, kind in kinds(count, width).items():
        kind()
        found[name] = {"milliseconds": 1e3 * min(seconds(kind, 1) for _ in range(repeats)), "bytes": peak(kind)}
    return found


def solver_memory() -> dict[str, list[float]]:
    """Peak bytes by solver, one for each width of HIDDEN."""
    found: dict[str, list[float]] = {name: [] for name in SOLVERS}
    for width in HIDDEN:
        at = Setting(64, width)
        for name, solver in SOLVERS.items():
            tape = at.network.tape(at.theta, at.samples.inputs)
            curvature = EmpiricalFisher().bind({}, tape, at.head, at.samples, None)[0]  # type: ignore[arg-type]
            found[name].append(peak(partial(solve, solver, curvature, at.v)))
    return found


def solve(solver: Any, curvature: Any, g: torch.Tensor) -> None:
    solver.prepare(solver.init(), curvature, DAMPING)[0](g)


def peak(kind: Callable[[], object]) -> float:
    with NewTensors() as memory:
        kind()
    return memory.peak


@torch.no_grad()
def grown(quick: bool) -> dict[str, Any]:
    before = os.getloadavg()[0]
    batches, widths, repeats = (BATCHES[:2], WIDTHS[:2], 2) if quick else (BATCHES, WIDTHS, 5)
    return {
        "machine": machine(),
        "batch": {str(count): measure(count, 64, repeats) for count in batches},
        "width": {str(width): measure(2048, width, repeats) for width in widths},
        "parameters": [Setting(1, width).network.layout.size for width in HIDDEN],
        "solver_bytes": solver_memory(),
        "load": [before, os.getloadavg()[0]],
    }


def trained(rounds: int, quick: bool) -> dict[str, Any]:
    before = os.getloadavg()[0]
    rounds = 1 if quick else rounds
    rates, growing = training.measure(rounds, 8192 if quick else 32768), training.measure_growth(rounds, quick)
    cores = f"{os.cpu_count()} cores, {machine()} each"
    return {"machine": cores, "steps_per_second": rates, "growth": growing, "load": [before, os.getloadavg()[0]]}


def main() -> None:
    parser = report.parser("growth", "Growth of time and memory with batch, width and parameters.")
    parser.add_argument("--training", action="store_true", help="whole runs with workers and ranks instead")
    parser.add_argument("--rounds", type=int, default=3, help="of training (3)")
    options = parser.parse_args()
    use_one_thread()
    data = read_json(RESULTS) if exists(RESULTS) else {}
    if options.training:
        data["training"] = trained(options.rounds, options.quick)
        print("\n".join(report.training(data["training"])))
    elif not options.draw:
        data = {**data, **grown(options.quick)}
        print("\n".join(report.growth(data)))
    if not options.quick:
        if not options.draw:
            RESULTS.parent.mkdir(exist_ok=True)
            write_json(RESULTS, data)
        if "batch" in data:
            report.draw(data, RESULTS.parents[1] / "growth.png")
            report.write("growth", data)


if __name__ == "__main__":
    main()
