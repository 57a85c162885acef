"""Landscapes: what the notes claim of optimisers on known functions. Data to results/, figures beside them.

scripts/reproduce landscapes             a few minutes
scripts/reproduce landscapes --quick     reduced, under a minute; into runs/landscapes-quick
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the matrices are small

import torch

from experiments._shared import study
from experiments.landscapes import bounds, figures_convergence, figures_methods, preconditioning, studies, written
from rlopt.parallel.processes import use_one_thread

HERE = Path(__file__).parent


def plan(quick: bool) -> dict[str, Callable[[], Any]]:
    """Name of a file in results/ -> what makes its content."""
    if quick:
        return {
            "quadratics": lambda: bounds.random_quadratics(8),
            "chain": lambda: {"exponents": bounds.exponents([100.0, 300.0, 1000.0]), "curves": bounds.curves()},
            "rates": lambda: bounds.convex_rates(500),
            "spectra": lambda: bounds.pessimism(1e-4),
            "written": lambda: {
                "pairs": written.everywhere(50),
                "lengths": written.first_steps(300),
                "alike": written.alike(),
            },
            "paths": studies.paths,
            "steps": lambda: studies.steps_of_length(300),
            "escape": lambda: studies.escape(80, 13),
            "preconditioning": lambda: _preconditioning(30, 300),
            "damping": lambda: studies.damping(40, 1),
            "schedules": studies.schedules,
            "rotation": lambda: studies.rotation(150, 1, (0, 15, 45)),
            "race": lambda: studies.race(60, 1),
            "lengths": studies.step_lengths,
        }
    return {
        "quadratics": bounds.random_quadratics,
        "chain": lambda: {
            "exponents": bounds.exponents([100.0, 300.0, 1000.0, 3000.0, 10_000.0]),
            "curves": bounds.curves(),
        },
        "rates": bounds.convex_rates,
        "spectra": bounds.pessimism,
        "written": lambda: {"pairs": written.everywhere(), "lengths": written.first_steps(), "alike": written.alike()},
        "paths": studies.paths,
        "steps": studies.steps_of_length,
        "escape": studies.escape,
        "preconditioning": lambda: _preconditioning(300, 5000),
        "damping": studies.damping,
        "schedules": studies.schedules,
        "rotation": studies.rotation,
        "race": studies.race,
        "lengths": studies.step_lengths,
    }


def _preconditioning(steps: int, limit: int) -> dict[str, Any]:
    return {
        "same": preconditioning.same_paths(steps),
        "invariance": preconditioning.invariance(),
        "bent": preconditioning.bent(),
        "data": preconditioning.by_data(limit=limit),
    }


def claims(results: dict[str, Any], quick: bool) -> list[tuple[str, bool]]:
    """Those of README.md that a number decides."""
    held = []
    rows = results["quadratics"]
    for method in ("gradient descent", "Nesterov"):
        worst = max(row[method]["worst"] for row in rows)
        held.append((f"{method}: error over its bound at most {worst:.2f} on {len(rows)} quadratics", worst <= 1))
    slopes = results["chain"]["exponents"]["exponents"]
    for method, wanted in (("gradient descent", 1.0), ("Nesterov", 0.5), ("CG", 0.5)):
        text = f"{method}: counts on the chain grow as kappa^{slopes[method]:.3f}, {wanted} +- .1"
        held.append((text, abs(slopes[method] - wanted) < 0.1))
    margin = min(results["chain"]["curves"]["least_over_lower"].values())
    held.append((f"error over the lower bound at least {margin:.2f} on the chain", margin >= 1))
    for row in results["preconditioning"]["same"]:
        difference = row["difference"]
        held.append((f"{row['landscape']}: preconditioned = reparametrised to {difference:.1e}", difference < 1e-10))
    pairs = [row for found in results["written"]["pairs"].values() for row in found]
    agree = max(row["difference"] for row in pairs if row["definitions_agree"])
    differ = min(row["difference"] for row in pairs if not row["definitions_agree"])
    held.append((f"as written = torch.optim to {agree:.1e} where definitions agree", agree < 1e-6))
    held.append((f"and differ by {differ:.1e} at least where they do not", differ > 1e-6))
    if not quick:
        rates = results["rates"]["slopes"].values()
        wanted = (-1.0, -1.0, -2.0)
        text = "h_k - h* falls as k^" + ", k^".join(f"{rate:.2f}" for rate in rates)
        held.append((text, all(abs(a - b) < 0.1 for a, b in zip(rates, wanted, strict=True))))
    return held


def main() -> int:
    options = study.parser(
        "Optimisers on known functions, through rlopt's core.", "reduced size", only=True
    ).parse_args()
    out = study.folder(HERE, options)
    use_one_thread()
    torch.set_default_dtype(torch.float64)
    results = study.results(plan(options.quick), options, out)
    figures_convergence.draw(out, results)
    figures_methods.draw(out, results)
    return study.verdict(claims(results, options.quick), out)


if __name__ == "__main__":
    raise SystemExit(main())
