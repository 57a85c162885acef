"""How time and memory grow with batch, width and parameters: scripts/bench --only growth [--quick]

Time: 17-w-w-6 tanh Gaussian policy, float32, one thread's processor time, least of the repeats. An update is TRPO's:
forward pass, gradient, CG-10 with the analytic Fisher metric, line search; or the same with K-FAC.
Memory: bytes of tensors made and alive at once (`rlopt.run.memory`), which is exact and the same on every machine;
in units of the activations that the forward pass caches, all layers' outputs.
Solvers: `prepare` and one solve at 64 samples, K = 1, for networks 17-w-w-6 of about 5, 50 and 500 thousand parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from parts import DAMPING, machine
from setting import ACTIONS, Setting, seconds

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
from rlopt.run.memory import NewTensors

RESULTS = Path(__file__).parent / "results/growth.json"
BATCHES, WIDTHS = (2048, 8192, 32768, 131072), (64, 256, 1024)
CG10, KRONECKER = CG(10, 0.0, None, "cold", 0.0), KFAC("exact", 0.0, 1)
SOLVERS: dict[str, Any] = {
    "cg": CG10,
    "low_rank": LowRank(10, 20, "gradient", 0, "none"),
    "gram": Gram(16384),
    "diagonal": Diagonal("exact", 1, 0, 256),
    "kfac": KRONECKER,
    "ekfac": EKFAC(0.0, 0.0, 1),
    "kfra": KFRA("exact", 0.0, 1),
    "block by incoming": Block("incoming", 16),
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


def cached(count: int, width: int) -> float:
    """Bytes of the activations that a forward pass keeps."""
    return 4.0 * count * (2 * width + ACTIONS)


def show(data: dict[str, Any]) -> None:
    print(f"\n{data['machine']}; load {data['load'][0]:.1f} to {data['load'][1]:.1f}")
    for title, rows in (("samples, width 64", data["batch"]), ("width, 2048 samples", data["width"])):
        names = list(next(iter(rows.values())))
        print(f"\n{title:<22}" + "".join(f"{name:>24}" for name in names))
        for size, row in rows.items():
            print(f"{int(size):<22,}" + "".join(f"{row[name]['milliseconds']:>21,.1f} ms" for name in names))
        sizes = [int(size) for size in rows]
        first, last = rows[str(sizes[0])], rows[str(sizes[-1])]
        powers = [exponent(sizes[0], sizes[-1], *(r[name]["milliseconds"] for r in (first, last))) for name in names]
        print(f"{'grows with the power':<22}" + "".join(f"{power:>24.2f}" for power in powers))
    print(f"\n{'peak memory / cached':<22}" + "".join(f"{name:>24}" for name in data["batch"][str(BATCHES[0])]))
    for size, row in data["batch"].items():
        ratios = [kind["bytes"] / cached(int(size), 64) for kind in row.values()]
        print(f"{int(size):<22,}" + "".join(f"{x:>24.2f}" for x in ratios))
    sizes = data["parameters"]
    print(f"\n{'bytes by parameter':<22}" + "".join(f"{f'P = {size:,}':>16}" for size in sizes) + f"{'power of P':>14}")
    for name, values in data["solver_bytes"].items():
        each = "".join(f"{value / size:>16.1f}" for value, size in zip(values, sizes, strict=True))
        print(f"{name:<22}{each}{exponent(sizes[0], sizes[-1], values[0], values[-1]):>14.2f}")


def exponent(n: float, m: float, a: float, b: float) -> float:
    return math.log(b / a) / math.log(m / n)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="Growth of time and memory with batch, width and parameters.")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, nothing written")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    batches, widths, repeats = (BATCHES[:2], WIDTHS[:2], 2) if quick else (BATCHES, WIDTHS, 5)
    data = {
        "machine": machine(),
        "batch": {str(count): measure(count, 64, repeats) for count in batches},
        "width": {str(width): measure(2048, width, repeats) for width in widths},
        "parameters": [Setting(1, width).network.layout.size for width in HIDDEN],
        "solver_bytes": solver_memory(),
        "load": [before, os.getloadavg()[0]],
    }
    show(data)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
