"""Approximations of the Fisher matrix against the exact one: scripts/reproduce approximations [--quick] [--figures]

Data to results/, figures beside them, every claim of README.md checked. --quick: one small policy, seconds; into
runs/approximations-quick.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch


from experiments._shared import policies, study
from experiments._shared.data import read_json, read_rows, write_json, write_rows
from experiments.approximations import figures, measure
from rlopt.parallel.processes import use_one_thread

HERE = Path(__file__).parent
DAMPINGS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
TIMED = 1e-2  # lambda at which cost is measured
COLUMNS = ("policy", "name", "family", "damping", "error", "angle", "random", "damping_used")
DIGITS = 6  # of numbers in both
COST = ("policy", "name", "family", "gradients", "milliseconds", "peak", "stored", "frobenius")


class Plan(NamedTuple):
    policies: tuple[tuple[str, int, int], ...]  # task, steps of training, units in each of two hidden layers
    samples: int
    dampings: tuple[float, ...]
    repeats: int


FULL = Plan((("cartpole", 30_000, 32), ("halfcheetah", 100_000, 32)), 2048, DAMPINGS, 7)
QUICK = Plan((("cartpole", 8_000, 8),), 256, DAMPINGS[1:4], 2)


def main() -> int:
    options = study.parser("Approximations of the Fisher matrix.", "one small policy").parse_args()
    out = study.folder(HERE, options)
    use_one_thread()
    if not options.figures:
        collect(QUICK if options.quick else FULL, out / "results")
    figures.draw(out)
    numbers = read_json(out / "results/numbers.json")
    return study.verdict(claims(numbers, read_rows(out / "results/cost.csv")), out)


def collect(plan: Plan, results: Path) -> None:
    found: list[list[Any]] = []
    costs: list[list[Any]] = []
    numbers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for env, steps, hidden in plan.policies:
            run_dir = policies.trained(Path(folder), env, steps, 0, hidden)
            at = policies.point(run_dir, plan.samples)
            errors, cost, numbers[env] = policy(at, plan)
            about = json.loads((run_dir / "summary.json").read_text())
            numbers[env] |= {name: about[name] for name in ("steps", "return_mean")}
            found += [[env, *row] for row in errors]
            costs += [[env, *row] for row in cost]
    write_rows(results / "errors.csv", COLUMNS, found, DIGITS)
    write_rows(results / "cost.csv", COST, costs, DIGITS)
    write_json(results / "numbers.json", numbers)


def policy(at: policies.Point, plan: Plan) -> tuple[list[list[Any]], list[list[Any]], dict[str, Any]]:
    """Rows of errors.csv and of cost.csv, without the task, and what is one number a policy."""
    curvature = at.curvature("fisher")
    truth = measure.Truth(curvature)
    layers, size = measure.places(curvature), len(at.g)
    gradient = measure.timed(at.gradient, 5 * plan.repeats)
    norm, mean = truth.F.norm(), float(truth.F.diagonal().mean())
    errors, costs, diagonals = [], [], {}
    for choice in measure.CHOICES:
        if choice.options.get("rank", 0) > size // 4:
            continue
        for damping in plan.dampings:
            row = measure.errors(choice, curvature, truth, at.g, damping)
            errors.append([choice.name, choice.family, damping, *row.values()])
        cost = measure.cost(choice, curvature, at.g, TIMED, plan.repeats)
        frobenius = None
        if choice.matrix:
            matrix = measure.matrix(choice, curvature, at.g, mean)
            frobenius = float((matrix - truth.F).norm() / norm)
            if choice.solver == "diagonal":
                diagonals[choice.name] = matrix.diagonal()
        stored = choice.stored(layers, size) / size
        costs.append([choice.name, choice.family, cost["milliseconds"] / gradient, *cost.values(), stored, frobenius])
    sums, sizes, exact = (diagonals[name] for name in ("Lehman, sum", "Lehman, abs", "diagonal"))
    slack = 1e-9 * exact.max()
    return errors, costs, {
        "parameters": size,
        "layers": [[place.outputs, place.inputs] for place in layers],
        "gradient_milliseconds": gradient,
        "eigenvalues": truth.mu.flip(0).tolist()[:: max(size // 400, 1)],
        "eigenvalue_step": max(size // 400, 1),
        "trace": float(truth.mu.sum()),
        "part_of_trace": {r: float(truth.mu.flip(0)[:r].sum() / truth.mu.sum()) for r in measure.RANKS},
        "diagonal_part_of_frobenius": float(truth.F.diagonal().norm() / norm),
        "lehman_ordered": bool((sums <= sizes + slack).all() and (sizes <= exact + slack).all()),
        "lehman_part_of_diagonal": {"sum": float(sums.sum() / exact.sum()), "abs": float(sizes.sum() / exact.sum())},
    }  # fmt: skip


def claims(numbers: dict[str, Any], costs: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """What theory guarantees: orders in Frobenius norm, and of Lehman's sensitivities."""
    held = []
    for env, about in numbers.items():
        f = {r["name"]: float(r["frobenius"]) for r in costs if r["policy"] == env and r["frobenius"]}
        ranks = [f[name] for name in f if name.startswith("low rank") and not name.endswith("mean")]
        for order in (
            ("block, layer", "block, incoming", "diagonal"),
            ("block, layer", "block, outgoing", "diagonal"),
            ("block, layer", "E-KFAC", "K-FAC"),
        ):
            values = [f[name] for name in order]
            text = " <= ".join(f"{name} {value:.4f}" for name, value in zip(order, values, strict=True))
            rising = all(a <= b + 1e-9 for a, b in zip(values, values[1:], strict=False))
            held.append((f"{env}: Frobenius error {text}", rising))
        falling = ranks == sorted(ranks, reverse=True)
        held.append((f"{env}: low rank's falls with r, {', '.join(f'{x:.4f}' for x in ranks)}", falling))
        held.append((f"{env}: Lehman's sum <= abs <= diagonal, entry by entry", about["lehman_ordered"]))
        held.append((f"{env}: the whole matrix is exact, {f['exact']:.0e}", f["exact"] < 1e-6))
    return held


if __name__ == "__main__":
    raise SystemExit(main())
