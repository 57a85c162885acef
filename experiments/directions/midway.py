"""Directions at real policies part-way through training: `rlopt inspect`, and what its safeguards hide.

| function | finds                                                                                            |
|---|---|
| inspected  | every metric with every solver that can serve it: cosine to g, KL and gain, predicted and real   |
| damped     | cosine of (M + lambda I)^-1 g to g over lambda, solved by eigenvalues whatever their sign         |
| warm       | cosine after i iterations of CG, cold and from the last batch's solution                          |
| relations  | which matrices are equal, and which depend on the advantages                                      |
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments._shared import policies
from experiments.directions.picture import SIX
from rlopt.config import check_config
from rlopt.config.catalogue import pairs
from rlopt.config.saved import load_run
from rlopt.training.restore import inspect_run

METRICS = (*SIX, "fisher")
DAMPING, RADIUS = 0.01, 0.01  # lambda, nats
EXACT = {**dict.fromkeys(METRICS, {}), "ggn": {"curvature": "signed"}}  # options: nothing clipped
RADII = (0.001, 0.01, 0.1)  # nats


def inspected(run_dir: Path, samples: int, solvers: list[str] | None, radius: float = RADIUS) -> list[dict[str, Any]]:
    """Rows of `rlopt inspect RUN_DIR --damping .01`, with the run's step."""
    config = check_config(load_run(run_dir))
    about, found = inspect_run(
        config, run_dir, pairs(METRICS, solvers), samples, radius, DAMPING, False, None, lambda *_: None
    )
    return [{"step": about["step"], "radius": radius, **asdict(d)} for d in found.directions]


@torch.no_grad()
def damped(at: policies.Point, metric: str, dampings: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Cosine to g for every lambda (N,), and the least and the largest eigenvalue of M."""
    mu, Q = torch.linalg.eigh(at.curvature(metric, **EXACT[metric]).dense())
    c = Q.t() @ at.g
    cosines = [policies.cosine(c / (mu + damping), c) for damping in dampings]
    return np.array(cosines), float(mu[0]), float(mu[-1])


@torch.no_grad()
def warm(run_dir: Path, samples: int, batches: int, iterations: int, damping: float) -> list[tuple]:
    """(batch, iterations, start, cosine to g) for CG with the Fisher metric, on one batch after another."""
    points = [policies.point(run_dir, samples, seed) for seed in range(batches + 1)]
    solver = policies.part("solver", "cg", start="warm")
    rows = []
    for batch, (before, at) in enumerate(zip(points, points[1:], strict=False)):
        _, state = solver.prepare(solver.init(), before.curvature("fisher"), damping)
        last = {**state, **solver.prepare(state, before.curvature("fisher"), damping)[0](before.g).state}
        curvature = at.curvature("fisher")
        for count in range(1, iterations + 1):
            for start, state in (("cold", {}), ("warm", last)):
                short = replace(solver, iterations=count, tolerance=0.0)
                x = short.prepare(state, curvature, damping)[0](at.g).x
                rows.append((batch, count, start, policies.cosine(x, at.g)))
    return rows


@torch.no_grad()
def relations(at: policies.Point) -> dict[str, Any]:
    """Relative differences, in Frobenius norm, of matrices that notes call equal, different, or free of the loss."""
    rng = torch.Generator().manual_seed(0)
    other = torch.randn(len(at.samples), generator=rng, dtype=torch.float64)
    moved = policies.at(at.update, at.theta, at.samples.replacing(advantages=other))
    free = {m: _apart(at.curvature(m, **EXACT[m]), moved.curvature(m, **EXACT[m])) for m in SIX}

    likely = policies.at(replace(at.update, objective=policies.part("objective", "log_prob")), at.theta,
                         at.samples.replacing(advantages=torch.ones_like(other)))  # fmt: skip
    covariance, ggn = likely.curvature("gradient_covariance"), likely.curvature("ggn", curvature="signed")
    eigenvalues = torch.linalg.eigvalsh(at.curvature("ggn", curvature="signed").dense())
    return {
        "changed_by_other_advantages": free,
        "log_likelihood": {
            "gradient_covariance_to_empirical_fisher": _apart(likely.curvature("empirical_fisher"), covariance),
            "ggn_to_fisher": _apart(likely.curvature("fisher"), ggn),
            "ggn_least_eigenvalue": float(torch.linalg.eigvalsh(ggn.dense())[0]),
        },
        "empirical_fisher_to_fisher": _apart(at.curvature("fisher"), at.curvature("empirical_fisher")),
        "signed_ggn_of_surrogate": {"least": float(eigenvalues[0]), "largest": float(eigenvalues[-1])},
    }


def _apart(truth: Any, other: Any) -> float:
    return float((truth.dense() - other.dense()).norm() / truth.dense().norm())
