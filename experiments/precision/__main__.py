"""What rounding the operands of matrix products does to a solve: scripts/reproduce precision [--quick] [--figures]

TF32 keeps 10 bits of a number's fraction and bfloat16 keeps 7; sums stay in float32. Processors have neither here, so
the operands of every matrix product are rounded to so many bits, which is what a GPU's units are given with
``matmul_precision=high`` and ``medium``. At the Fisher matrices of two policies part-way through their training, the
solution in float32 with such products is compared with that in float64. Writes results/ENV.json, and the table.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from experiments._shared import policies, study
from rlopt.parallel.processes import use_one_thread

HERE = Path(__file__).parent
ENVS = ("hopper", "halfcheetah")
STEPS, SAMPLES, HIDDEN, SEED, DAMPING = 100_000, 2048, 64, 0, 0.1
BITS = {"float32": 23, "TF32": 10, "bfloat16": 7}  # of the fraction
SOLVERS: dict[str, dict[str, Any]] = {
    "cg": {"iterations": 15, "tolerance": 0.0},
    "kfac": {},
    "ekfac": {},
}
LEAST = {"cg": 0.98, "kfac": 0.995, "ekfac": 0.995}  # claimed of the gain
PRODUCTS = {
    "mm": (0, 1),
    "addmm": (1, 2),
    "addmm_": (1, 2),
    "bmm": (0, 1),
    "baddbmm": (1, 2),
    "mv": (0, 1),
    "addmv": (1, 2),
}


class Rounded(TorchDispatchMode):
    """Rounds the operands of matrix products to ``bits`` of their fraction, to nearest."""

    def __init__(self, bits: int):
        super().__init__()
        self.bits, self.count = bits, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if places := PRODUCTS.get(func.overloadpacket.__name__, ()):
            self.count += 1
            args = [rounded(x, self.bits) if i in places else x for i, x in enumerate(args)]
        return func(*args, **(kwargs or {}))


def rounded(x: Tensor, bits: int) -> Tensor:
    """float32 numbers to ``bits`` of their fraction, ties to even, exponents as they are."""
    drop = 23 - bits
    if not drop:
        return x
    whole = x.contiguous().view(torch.int32)
    whole = whole + ((1 << (drop - 1)) - 1) + ((whole >> drop) & 1)
    return (whole >> drop << drop).view(torch.float32)


def cast(point: policies.Point, dtype: torch.dtype) -> policies.Point:
    """The same point in another type."""
    samples = point.samples.map(lambda x: x.to(dtype) if x.is_floating_point() else x)
    return policies.at(point.update, point.theta.to(dtype), samples)


@torch.no_grad()
def measure(env: str, quick: bool) -> dict[str, Any]:
    """By solver and type: the distance to the solution in float64, and the residual measured there."""
    steps, samples = (4_000, 256) if quick else (STEPS, SAMPLES)
    exact = policies.point(policies.trained(Path("runs/precision"), env, steps, SEED, HIDDEN), samples)
    single, found = cast(exact, torch.float32), {}
    F = exact.curvature("fisher")
    for name, options in SOLVERS.items():
        solver, rows = policies.part("solver", name, **options), {}
        wanted = policies.solve(solver, F, exact.g, DAMPING)
        for kind, bits in BITS.items():
            with Rounded(bits) as products:
                x = policies.solve(solver, single.curvature("fisher"), single.gradient(), DAMPING).double()
            assert products.count > 0
            residual = F.product(x) + DAMPING * x - exact.g
            rows[kind] = {
                "error": float((x - wanted).norm() / wanted.norm()),
                "residual": float(residual.norm() / exact.g.norm()),
                "cosine": policies.cosine(x, wanted),
                "gain": float(torch.dot(exact.g, x) / torch.dot(x, F.product(x)).sqrt())
                / float(torch.dot(exact.g, wanted) / torch.dot(wanted, F.product(wanted)).sqrt()),
            }
        found[name] = rows
    return found


def table(results: dict[str, Any]) -> str:
    lines = [
        "| | products in | distance to float64's | residual / g | cosine | gain at equal KL |",
        "|---|---|---|---|---|---|",
    ]
    for env, solvers in results.items():
        for solver, rows in solvers.items():
            for kind, row in rows.items():
                cells = f"{row['error']:.1e} | {row['residual']:.4f} | {row['cosine']:.6f} | {row['gain']:.4f}"
                lines.append(f"| {env}, {solver} | {kind} | {cells} |")
    return "\n".join(lines)


def claims(results: dict[str, Any]) -> list[tuple[str, bool]]:
    """At one KL, a step with rounded products gains at least LEAST of float64's."""
    found = []
    for env, solvers in results.items():
        for solver, kind in product(LEAST, ("TF32", "bfloat16")):
            gain, least = solvers[solver][kind]["gain"], LEAST[solver]
            found.append((f"{env}, {solver}: {kind} gains {gain:.4f} of float64's, {least} claimed", gain >= least))
    return found


def main() -> int:
    about = "What rounding the operands of matrix products does to a solve."
    options: argparse.Namespace = study.parser(about, "256 samples of policies that hardly learned").parse_args()
    use_one_thread()
    options.only = None
    out = study.folder(HERE, options)
    results = study.results({env: partial(measure, env, options.quick) for env in ENVS}, options, out)
    print(shown := table(results))
    if not options.quick and options.out is None:
        study.publish(HERE / "README.md", shown)
    return study.verdict([] if options.quick else claims(results), out)


if __name__ == "__main__":
    sys.exit(main())
