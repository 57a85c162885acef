"""Inspection: the direction of every metric with every solver that can serve it, at one theta and on one batch.

    x = (M + lambda I)^-1 g as the solver computes it,    theta' = theta + alpha x with 1/2 alpha^2 x^T F x = radius

F is the analytic Fisher matrix, whatever the metric, so that all steps have the same predicted length: ``radius`` nats.
The improvement and the mean KL that each step really makes are measured on the same batch, by the update's objective.
Exact solutions and eigenvalues are the metric's in float64, whatever the dtype of the run, found once for all solvers;
see `reference`. A pair that would take too long may be left out; see `budget`.

Every pair starts without history: running means hold this batch alone, and past gradients are this one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Curvature
from rlopt.core.parts import HISTORY, OBJECTIVE, SEMIDEFINITE, STATISTICS, History, Metric, Solution, Solver
from rlopt.core.problem import Problem, step_length
from rlopt.core.samples import Samples
from rlopt.core.update import Update
from rlopt.errors import Stopped, UserError, in_one_line
from rlopt.files import finite
from rlopt.inspection.budget import NO_LIMITS, Clock, LeftOut, Limits
from rlopt.inspection.memory import NewTensors
from rlopt.inspection.reference import Reference, find_reference, quick_products
from rlopt.parallel.collectives import all_sum

Pairs = Iterable[tuple[str, Metric, Mapping[str, Solver]]]  # metrics by name, each with the solvers that can serve it
Watch = Callable[[int, str], None]  # how many pairs are done, and what comes next

_FAILURES = (NumericalFailure, UserError, ValueError, RuntimeError)  # of one pair; the others are still inspected
_REPEATS = 3  # how often a pair is timed
_PATIENCE = 0.5  # seconds; a pair that has taken longer is not timed again
_SLOW = 2.0  # seconds; a pair that is estimated to take longer runs once, for memory and time


@dataclass(frozen=True)
class Direction:
    """One metric with one solver: x, and the step alpha x. A number that could not be computed is None."""

    metric: str
    solver: str
    failure: str | None = None  # why numbers are missing
    cosine_gradient: float | None = None
    cosine_exact: float | None = None  # to (M + lambda I)^-1 g; None where that is not known
    damping: float | None = None  # lambda that was used; a factorisation may need more than was asked for
    residual: float | None = None  # |g - (M_s + lambda I) x| / |g|, where M_s is the solver's own matrix
    iterations: float | None = None
    alpha: float | None = None
    improvement_predicted: float | None = None  # alpha g^T x, units of the objective
    improvement: float | None = None  # measured
    kl_predicted: float | None = None  # nats, mean over states
    kl: float | None = None  # measured
    milliseconds: float | None = None  # prepare and solve, median
    peak_bytes: int | None = None  # of the tensors that prepare and solve made: the most alive at once


@dataclass(frozen=True)
class Spectrum:
    """One metric's nonzero Ritz values and what follows from them, in units of M."""

    metric: str
    failure: str | None = None
    eigenvalues: tuple[float, ...] = ()  # largest first
    largest: float | None = None  # by magnitude
    smallest: float | None = None
    condition: float | None = None  # largest / smallest; of a semidefinite M on its range, a lower bound
    negative: int = 0  # how many are below 0

    @classmethod
    def of(cls, metric: str, values: Iterable[float]) -> Spectrum:
        """From the Ritz values, in any order."""
        values = tuple(sorted(values, reverse=True))
        if not values:
            return cls(metric, "M is zero")
        sizes = [abs(value) for value in values]
        largest, smallest = max(sizes), min(sizes)
        return cls(metric, None, values, largest, smallest, largest / smallest, sum(value < 0 for value in values))


@dataclass(frozen=True)
class Inspection:
    """All that was found at one theta (P,) on one batch."""

    parameters: int  # P
    samples: int
    damping: float  # lambda, in units of M
    radius: float  # nats
    gradient_norm: float
    directions: list[Direction]
    spectra: list[Spectrum]
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many pairs need no more work."""
        return len(self.directions) + sum(pair.solver is not None for pair in self.left_out)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it: a number that is not finite is None."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain


@torch.no_grad()
def inspect(
    update: Update,
    theta: Tensor,
    samples: Samples,
    pairs: Pairs,
    damping: float,
    radius: float,
    watch: Watch,
    limits: Limits = NO_LIMITS,
    usual: Mapping[str, float] | None = None,
) -> Inspection:
    """Inspect every pair at theta (P,), but for those above the limits. ``watch`` is told what comes next.

    ``damping`` is lambda, in units of M; ``radius`` is in nats. Solvers that make M of gradients have units of their
    own, and take the lambda that ``usual`` has for their names; no exact solution is known of them. Raises Stopped
    where the gradient is not finite.
    """
    start, g = _problem(update, theta, samples)
    if not g.sum().isfinite():
        raise Stopped("the objective's gradient is not finite on this batch")
    wide = samples.map(lambda value: value.double() if value.is_floating_point() else value)
    exact, exact_g = _problem(update, theta.double(), wide)
    found = Inspection(len(g), len(samples), damping, radius, float(g.norm()), [], [])
    for name, metric, solvers in pairs:
        watch(found.done, f"metric={name}")
        if not limits.allow(metric, len(g)):
            found.left_out.extend(LeftOut(name, solver, None) for solver in solvers)
            continue
        l2 = update.l2 if OBJECTIVE in metric.supplies else 0.0  # added to M, as in the update
        try:
            reference = _reference(metric, exact, exact_g, damping + l2, limits)
            if own := STATISTICS in metric.supplies:
                reference = replace(reference, exact=None, left_out=False)
            curvature = _bind(metric, start, g)
        except _FAILURES as error:
            found.spectra.append(Spectrum(name, in_one_line(error)))
            found.directions.extend(Direction(name, solver, in_one_line(error)) for solver in solvers)
            continue
        found.spectra.append(Spectrum.of(name, reference.eigenvalues))
        if reference.left_out:
            found.left_out.append(LeftOut(name, None, None))
        dampings = {solver: (usual or {}).get(solver, damping) if own else damping + l2 for solver in solvers}
        setting = curvature, start, theta, g, reference.exact, radius
        _inspect_solvers(found, name, solvers, dampings, setting, l2, watch, limits)
    return found


def _inspect_solvers(
    found: Inspection,
    metric: str,
    solvers: Mapping[str, Solver],
    dampings: Mapping[str, float],
    setting: tuple[Curvature, Problem, Tensor, Tensor, Tensor | None, float],
    l2: float,
    watch: Watch,
    limits: Limits,
) -> None:
    """Add to ``found`` what every solver does with one metric. ``setting`` is what `_direction` takes between the
    damping and ``once``; l2 is the part of every damping that belongs to M.
    """
    curvature, _, _, g, *_ = setting
    clock = Clock(curvature, g)
    for solver, part in solvers.items():
        watch(found.done, f"metric={metric} solver={solver}")
        try:
            seconds = clock.estimate(part)
            if seconds > limits.seconds:
                found.left_out.append(LeftOut(metric, solver, seconds))
                continue
            values = _direction(part, dampings[solver], *setting, once=seconds > _SLOW)
            values["damping"] -= l2
        except _FAILURES as error:
            values = {"failure": in_one_line(error)}
        found.directions.append(Direction(metric, solver, **values))


def _reference(metric: Metric, problem: Problem, g: Tensor, damping: float, limits: Limits) -> Reference:
    """The metric's eigenvalues and exact solution, at a problem in float64."""
    semidefinite, M = SEMIDEFINITE in metric.supplies, _bind(metric, problem, g)
    if limits.quick and not limits.exact:
        few = quick_products(len(g), len(problem.samples))
        return find_reference(M, g, damping, semidefinite, exact=False, products=few)
    return find_reference(M, g, damping, semidefinite, limits.exact)


def _problem(update: Update, theta: Tensor, samples: Samples) -> tuple[Problem, Tensor]:
    """The problem at theta, and the objective's gradient there."""
    tape = update.network.tape(theta, samples.inputs)
    values, dz = update.objective.values_and_gradient(update.head, tape.outputs, samples)
    g = all_sum(tape.vjp(dz * samples.share[:, None])) - update.l2 * theta
    value = samples.mean(values) - update.l2 / 2 * torch.dot(theta, theta)
    return Problem(update.network, update.head, update.objective, samples, tape, value, update.l2), g


def _bind(metric: Metric, problem: Problem, g: Tensor) -> Curvature:
    """M of this problem, without history."""
    if HISTORY in metric.supplies:
        return cast(History, metric).add(metric.init(), g)[0]
    return metric.bind(metric.init(), problem.tape, problem.head, problem.samples, problem.objective)[0]


def _direction(
    solver: Solver,
    damping: float,
    curvature: Curvature,
    start: Problem,
    theta: Tensor,
    g: Tensor,
    exact: Tensor | None,
    radius: float,
    once: bool,
) -> dict[str, Any]:
    """The fields of a Direction, but for its names. ``exact`` is the exact solution (P,), if it is known.

    With ``once`` the time is that of the run in which memory is counted, which makes it a few percent longer.
    """

    def solve() -> Solution:
        return solver.prepare(solver.init(), curvature, damping)[0](g)

    begin = time.perf_counter()
    with NewTensors() as memory:
        solution = solve()
    x = solution.x
    finite = bool(x.sum().isfinite())  # waits until an accelerator has finished
    seconds = [time.perf_counter() - begin] if once else []
    while not once and len(seconds) < _REPEATS and sum(seconds) < _PATIENCE:
        begin = time.perf_counter()
        solve().x.sum().item()
        seconds.append(time.perf_counter() - begin)
    if not finite:
        raise NumericalFailure("the direction is not finite")
    q = torch.dot(x, start.fisher(x))
    alpha = step_length(q, x, 0.0, radius, float("inf"))
    if not alpha.isfinite():
        raise NumericalFailure("the policy does not change along the direction")
    found = {
        "cosine_gradient": _cosine(x, g),
        "cosine_exact": None if exact is None else _cosine(x, exact),
        "damping": float(solution.scalars.get("damping/value", solution.damping)),
        **{"residual": float(solution.residual), "iterations": float(solution.iterations or 0.0)},
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


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.double(), b.double()) / (a.double().norm() * b.double().norm()))
