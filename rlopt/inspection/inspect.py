"""Inspection: the direction of every metric with every solver that can serve it, at one theta and on one batch.

    x = (M + lambda I)^-1 g as the solver has it,    theta' = theta + alpha x with 1/2 alpha^2 x^T F x = radius

F is the analytic Fisher matrix, whatever the metric, so that all go equally far by its prediction: ``radius`` nats.
What really happened there, improvement and mean KL, is measured on the same batch, by the update's own objective.
Exact solutions and eigenvalues are those of the metric in float64, whatever the dtype of the run.

Every pair begins without history: running means hold this batch alone, and past gradients are this one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Curvature
from rlopt.core.parts import HISTORY, OBJECTIVE, History, Metric, Solution, Solver
from rlopt.core.problem import Problem, step_length
from rlopt.core.samples import Samples
from rlopt.core.solvers.dense import factorise
from rlopt.core.spectrum import ritz_values
from rlopt.core.update import Update
from rlopt.errors import Stopped, UserError
from rlopt.inspection.findings import Direction, Inspection, Spectrum
from rlopt.inspection.memory import NewTensors
from rlopt.parallel.collectives import all_sum

Pairs = Iterable[tuple[str, Metric, Mapping[str, Solver]]]  # metrics, each with the solvers that can serve it

_FAULTS = (NumericalFailure, UserError, ValueError, RuntimeError)  # of one pair; the others go on
_TIMES = 3
_PATIENCE = 2.0  # seconds; a pair that took longer is not timed again
_EXACT_UP_TO = 1000  # parameters, for the exact solution
_PRODUCTS = 100  # for a spectrum, at most


@torch.no_grad()
def inspect(
    update: Update, theta: Tensor, samples: Samples, pairs: Pairs, damping: float, radius: float,
    watch: Callable[[str], None],
) -> Inspection:  # fmt: skip
    """Every pair at theta (P,); ``watch`` is told what comes next.

    Raises Stopped where the gradient itself is not finite.
    """
    start, g = _start(update, theta, samples)
    if not g.sum().isfinite():
        raise Stopped("the objective's gradient is not finite on this batch")
    exact, exact_g = _start(update, theta.double(), _double(samples))
    directions: list[Direction] = []
    spectra: list[Spectrum] = []
    for name, metric, solvers in pairs:
        watch(f"metric={name}")
        try:
            truth, curvature = _bound(metric, exact, exact_g), _bound(metric, start, g)
            spectrum = Spectrum.of(name, ritz_values(truth, exact_g, _PRODUCTS, seed=0).tolist())
            l2 = update.l2 if OBJECTIVE in metric.supplies else 0.0  # M gains it, as in the update
            x = _exact(truth, exact_g, damping + l2) if len(g) <= _EXACT_UP_TO else None
        except _FAULTS as error:
            spectra.append(Spectrum(name, _line(error)))
            directions += [Direction(name, solver, _line(error)) for solver in solvers]
            continue
        spectra.append(spectrum)
        for solver, part in solvers.items():
            watch(f"metric={name} solver={solver}")
            try:
                values = _direction(part, curvature, start, theta, g, x, damping + l2, radius)
                values["damping"] -= l2
            except _FAULTS as error:
                values = {"failure": _line(error)}
            directions.append(Direction(name, solver, **values))
    return Inspection(len(g), len(samples), damping, radius, float(g.norm()), directions, spectra)


def _start(update: Update, theta: Tensor, samples: Samples) -> tuple[Problem, Tensor]:
    """The problem at theta, and the objective's gradient there."""
    tape = update.network.tape(theta, samples.inputs)
    values, dz = update.objective.values_and_gradient(update.head, tape.outputs, samples)
    g = all_sum(tape.vjp(dz * samples.share[:, None])) - update.l2 * theta
    value = samples.mean(values) - update.l2 / 2 * torch.dot(theta, theta)
    return Problem(update.network, update.head, update.objective, samples, tape, value, update.l2), g


def _bound(metric: Metric, at: Problem, g: Tensor) -> Curvature:
    """M there, without a past."""
    if HISTORY in metric.supplies:
        return cast(History, metric).add(metric.init(), g)[0]
    return metric.bind(metric.init(), at.tape, at.head, at.samples, at.objective)[0]


def _direction(
    solver: Solver, curvature: Curvature, start: Problem, theta: Tensor, g: Tensor, exact: Tensor | None,
    damping: float, radius: float,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a Direction."""

    def solve() -> Solution:
        return solver.prepare(solver.init(), curvature, damping)[0](g)

    with NewTensors() as memory:
        solution = solve()
    x = solution.x
    seconds: list[float] = []
    while len(seconds) < _TIMES and sum(seconds) < _PATIENCE:
        began = time.perf_counter()
        solve().x.sum().item()  # looks, so that an accelerator has finished
        seconds.append(time.perf_counter() - began)
    if not x.sum().isfinite():
        raise NumericalFailure("the direction is not finite")
    q = torch.dot(x, start.fisher(x))
    alpha = step_length(q, x, 0.0, radius, float("inf"))
    if not alpha.isfinite():
        raise NumericalFailure("the policy does not change along the direction")
    found = {
        "cosine_gradient": _cosine(x, g),
        "cosine_exact": None if exact is None else _cosine(x, exact),
        **{name: float(getattr(solution, name)) for name in ("damping", "residual", "iterations")},
        "alpha": float(alpha),
        "improvement_predicted": float(alpha * torch.dot(g, x)),
        "kl_predicted": float(alpha**2 * q / 2),
        "milliseconds": 1000 * statistics.median(seconds),
        "peak_bytes": memory.peak,
    }
    trial = start.trial(theta + alpha * x)
    if not trial.in_domain & (trial.objective + trial.kl).isfinite():
        return {**found, "failure": "at this radius the step leaves the policy's domain, or what is finite"}
    return {**found, "improvement": float(trial.objective - start.value), "kl": float(trial.kl)}


def _exact(curvature: Curvature, g: Tensor, damping: float) -> Tensor | None:
    """(M + damping I)^-1 g, or None where that matrix is not positive definite beyond rounding."""
    try:
        factor, used = factorise(curvature.dense(), damping)
    except NumericalFailure:
        return None
    return torch.cholesky_solve(g[:, None], factor).squeeze(1) if used == damping else None


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.double(), b.double()) / (a.double().norm() * b.double().norm()))


def _double(samples: Samples) -> Samples:
    return samples.map(lambda value: value.double() if value.is_floating_point() else value)


def _line(error: Exception) -> str:
    """The message in one line."""
    return " ".join(str(error).split())
