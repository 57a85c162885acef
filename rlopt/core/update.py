"""The one equation: theta <- theta + alpha (M(theta) + lambda I)^-1 g.

| symbol | is                                   | from          |
|---|---|---|
| z      | outputs (B, O) at theta              | tape          |
| g      | gradient (P,) of the mean objective  | objective, estimator |
| M      | metric (P, P), by its products       | metric        |
| lambda | damping                              | damping       |
| x      | direction, (M + lambda I) x = g      | solver        |
| alpha  | length of the step, 0 if rejected    | step          |

With l2 > 0 the objective, and so g, loses l2 / 2 |theta|^2; M gains l2 I where it is a Hessian, and only there, so that
every metric's step leads to the same theta.

New theta and new states are returned together or not at all: when objective, gradient or direction is not finite the
old ones are returned as they were, and the report names the first bad quantity. After a rejected step only the damping
learns.

An adaptive damping learns from rho, the agreement of the metric's quadratic model with what a step d really did:

    M models minus the objective's Hessian:   rho = improvement measured / (g^T d - 1/2 d^T M d)   (Martens 2010, 4.1)
    1/2 d^T M d models KL, in nats:           rho = (1/2 d^T M d) / KL measured

So rho is 1 for a model that holds, and falls where the step was worse than foreseen: it gained less, or moved the
policy further. M is the metric itself, not a solver's approximation of it, as in K-FAC (Martens and Grosse 2015, 6.5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlopt.core.arrays import squared_length, takes_arrays
from rlopt.core.checks import NumericalFailure, non_negative
from rlopt.core.curvature import Curvature
from rlopt.core.estimators.plain import Plain
from rlopt.core.heads import Head, Joint
from rlopt.core.importance import Batch
from rlopt.core.network import Network
from rlopt.core.parts import (
    EUCLIDEAN,
    HISTORY,
    KL,
    OBJECTIVE,
    STATISTICS,
    Damping,
    Estimate,
    Estimator,
    History,
    Metric,
    Scalars,
    Solution,
    Solver,
    State,
    Step,
)
from rlopt.core.problem import Objective, Problem, adaptive_objective
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.samples import Samples
from rlopt.core.tapes.array import ArrayTape
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_sum, all_sums, world_size

# a metric bound to samples with its new state, or why it is not
MaybeBound = tuple[Curvature, State] | NumericalFailure


@dataclass(frozen=True)
class Report:
    """The outcome of one update. ``failure`` is None or says what was not finite; then nothing was changed."""

    failure: str | None = None
    scalars: Scalars = field(default_factory=dict)
    later: Mapping[str, Callable[[], Tensor | float]] = field(default_factory=dict)  # scalars computed when read

    def read(self) -> Scalars:
        """All scalars; those that cost something are computed here, so for the reports alone that are read."""
        return {**self.scalars, **{name: work() for name, work in self.later.items()}}


@dataclass(frozen=True)
class Update:
    """One network's update, from its parts; functional in theta (P,) and in the parts' states.

    ``l2``, 0 or above, is the weight of the term -l2 / 2 |theta|^2 in the objective, in its units per squared unit of
    theta. ``trace`` is gamma lambda of the advantages, which an estimator with importance weights reads. Raises
    Incompatible where the damping cannot learn from the metric, or the estimator not from a value.
    """

    network: Network
    head: Head
    objective: Objective
    metric: Metric
    solver: Solver
    damping: Damping
    step: Step
    l2: float = 0.0
    estimator: Estimator = Plain()
    trace: float = 0.0

    def __post_init__(self) -> None:
        non_negative("l2", self.l2)
        if self.damping.measures and not {KL, OBJECTIVE} & self.metric.supplies:
            raise Incompatible(
                "an adaptive damping compares the metric's model of the KL divergence or of the objective with what "
                "was measured, and this metric is a model of neither",
                Remedy.OTHER_METRIC,
            )
        if self.estimator.reduces and (isinstance(self.head, Joint) or self.objective.serves == "critic"):
            raise Incompatible("importance weights correct for actions, and a value takes none")

    def init(self, theta: Tensor) -> State:
        """The parts' states before the first update."""
        objective = adaptive_objective(self.objective)
        return {
            "metric": self.metric.init(),
            "solver": self.solver.init(),
            "damping": self.damping.init(),
            "step": self.step.init(theta),
            "objective": objective.init() if objective else {},
            **({"estimator": self.estimator.init()} if self.estimator.reduces else {}),
        }

    def current_objective(self, state: State) -> Objective:
        """The objective with the coefficients that ``state`` holds."""
        objective = adaptive_objective(self.objective)
        return objective.at(state["objective"]) if objective else self.objective

    def takes_arrays(self, theta: Tensor, samples: Samples, count: int) -> bool:
        """True where steps on ``count`` of these samples at a time are better made with arrays, see `core.arrays`."""
        plain = bool({EUCLIDEAN, STATISTICS} & self.solver.needs) and not self.estimator.reduces and world_size() == 1
        parts = takes_arrays(self.head) and takes_arrays(self.objective)
        return plain and parts and self.network.takes_arrays(theta, samples.inputs, count)

    def __call__(self, theta: Tensor, state: State, samples: Samples) -> tuple[Tensor, State, Report]:
        """One step on these samples, from theta (P,)."""
        tape, objective = self.network.tape(theta, samples.inputs), self.current_objective(state)
        value, own = value_and_gradient(tape, self.head, objective, samples)
        own, value, bound = _sum_over_ranks(own, value, self._bind_metric(state, tape, samples, objective))
        estimate = self._estimate(theta, state, samples, objective, own)
        if estimate.g is None:
            return _wait(theta, state, value, own, estimate)
        g, value, damping, bound = self._complete(theta, state, estimate.g, own, value, bound)
        try:
            if isinstance(bound, NumericalFailure):
                raise bound
            M, metric_state = bound
            solve, solver_state = self.solver.prepare(state["solver"], M, damping)
            solution = solve(g)
        except NumericalFailure as failure:
            return theta, state, Report(first_nonfinite({"objective": value, "gradient": g}) or str(failure))
        x = solution.x
        squared = squared_length(g) if solution.squared is None else solution.squared
        direction = {} if x is g else {"direction": x}
        if bad := first_nonfinite({"objective": value, "gradient": squared, **direction}):
            return theta, state, Report(bad)

        again = partial(self._solve_at, state, samples, objective, theta)
        problem = Problem(self.network, self.head, objective, samples, tape, value, self.l2, again)
        slope = cast(Tensor, squared) if x is g else torch.dot(g, x)  # a number serves as well
        # an optimizer overwrites theta, which the tape reads again where the damping measures or a residual comes later
        reads = self.damping.measures or callable(solution.error)
        start = theta.clone() if reads or self.network.free is not None else theta
        moved, step_state, scalars = self.step.step(state["step"], start, solution, slope, problem)
        moved = self._without_frozen(moved, theta)
        accepted = bool(scalars["step/accepted"])
        if accepted and self.damping.measures:
            here = g if estimate.g is own else own + (g - estimate.g)  # what is measured is measured on this batch
            rho = agreement(self.metric, M, here, moved - theta, moved, problem, scalars)
            scalars = {**scalars, "damping/agreement": rho}
        report = _report({**scalars, **estimate.scalars}, solution, value, squared, state["objective"])
        kept = {"metric": metric_state, "solver": {**solver_state, **solution.state}} if accepted else {}
        if accepted and self.estimator.reduces:
            kept["estimator"] = estimate.state
        state = {**state, **kept, "damping": self.damping.adapt(state["damping"], report.scalars), "step": step_state}
        return moved if accepted else theta, state, report

    def _without_frozen(self, moved: Tensor, theta: Tensor) -> Tensor:
        """``moved``, but theta where frozen: weight decay, or a metric that is no pull-back, may move all of them."""
        return moved if self.network.free is None else torch.where(self.network.free.to(theta) > 0, moved, theta)

    def _solve_at(
        self, state: State, samples: Samples, objective: Objective, start: Tensor, theta: Tensor
    ) -> Tensor | None:
        """The direction x (P,) at another theta (P,), from the same states; None where some quantity is not finite.

        Frozen parameters are those of ``start``.
        """
        theta = self._without_frozen(theta, start)
        tape = self.network.tape(theta, samples.inputs)
        value, own = value_and_gradient(tape, self.head, objective, samples)
        own, value, bound = _sum_over_ranks(own, value, self._bind_metric(state, tape, samples, objective))
        g, value, damping, bound = self._complete(theta, state, own, own, value, bound)
        try:
            if isinstance(bound, NumericalFailure):
                raise bound
            x = self.solver.prepare(state["solver"], bound[0], damping)[0](g).x
        except NumericalFailure:
            return None
        return None if first_nonfinite({"objective": value, "gradient": g, "direction": x}) else x

    def _bind_metric(self, state: State, tape: Tape, samples: Samples, objective: Objective) -> MaybeBound:
        """M on this rank's samples. A failure is returned, since all ranks must learn of it before they go on."""
        try:
            return self.metric.bind(state["metric"], tape, self.head, samples, objective)
        except NumericalFailure as failure:
            return failure

    def _estimate(self, theta: Tensor, state: State, samples: Samples, objective: Objective, own: Tensor) -> Estimate:
        """The estimator's gradient, from the batch's own (P,), over all ranks' samples."""
        if not self.estimator.reduces:
            return Estimate(own, {})
        batch = Batch(self.network, self.head, objective, samples, self.trace)
        return self.estimator.estimate(state["estimator"], theta, own, batch)

    def _complete(
        self, theta: Tensor, state: State, g: Tensor, own: Tensor, value: Tensor, bound: MaybeBound
    ) -> tuple[Tensor, Tensor, Tensor | float, MaybeBound]:
        """Gradient, objective, damping and metric with the term -l2 / 2 |theta|^2; past gradients with this one."""
        damping = self.damping.current(state["damping"])
        if self.l2:
            free = 1.0 if self.network.free is None else self.network.free.to(theta)
            g, value = g - self.l2 * theta * free, value - self.l2 / 2 * torch.dot(theta, theta)
            if OBJECTIVE in self.metric.supplies:  # M is minus a Hessian, and this is the term's own
                damping = damping + self.l2
        if g is not own and HISTORY in self.metric.supplies and not isinstance(bound, NumericalFailure):
            bound = cast(History, self.metric).add(state["metric"], g)
        return g, value, damping, bound


def value_and_gradient(tape: Tape, head: Head, objective: Objective, samples: Samples) -> tuple[Tensor | float, Tensor]:
    """The objective's weighted sum over this rank's samples and its gradient (P,), a new tensor; in numpy by arrays."""
    if not isinstance(tape, ArrayTape):
        values, dz = objective.values_and_gradient(head, tape.outputs, samples)
        return torch.dot(samples.share, values), tape.vjp(dz * samples.share[:, None])
    share: Any = samples.share
    values, dz = objective.values_and_gradient(head, cast(Tensor, tape.z), samples)
    dz *= share[:, None]
    return float(np.dot(share, values)), torch.from_numpy(tape.array_vjp(cast(Any, dz)))


def _wait(theta: Tensor, state: State, value: Tensor, g: Tensor, estimate: Estimate) -> tuple[Tensor, State, Report]:
    """No step, for an estimator that asks for another batch: its state alone is kept, if this batch is finite."""
    squared = torch.dot(g, g)
    if bad := first_nonfinite({"objective": value, "gradient": squared}):
        return theta, state, Report(bad)
    scalars: Scalars = {"step/accepted": 0.0, "step/size": 0.0, "objective/value": value}
    return theta, {**state, "estimator": estimate.state}, Report(None, {**scalars, **estimate.scalars})


def _sum_over_ranks(g: Tensor, given: Tensor | float, bound: MaybeBound) -> tuple[Tensor, Tensor, MaybeBound]:
    """Gradient and objective of all ranks' samples, and the metric, or its failure where one rank has failed."""
    value = cast(Tensor, given)  # which is a number on one rank alone
    if world_size() == 1:
        return g, value, bound
    failed = isinstance(bound, NumericalFailure)
    g, value, failures = all_sums(g, value, value.new_full((), float(failed)))
    if not failed and failures:
        bound = NumericalFailure("the metric of another rank's samples")
    return g, value, bound


def agreement(
    metric: Metric, curvature: Curvature, g: Tensor, d: Tensor, theta: Tensor, problem: Problem, scalars: Scalars
) -> Tensor:
    """rho () of the step d (P,) to theta (P,); NaN where the predicted change, or the measured KL, is not above 0.

    A measurement that the step made is read from its scalars; else it is made now, on the same samples.
    """
    name = "step/improvement_measured" if OBJECTIVE in metric.supplies else "step/kl_measured"
    measured = scalars.get(name)
    if measured is None:
        trial = problem.trial(theta)
        measured = trial.objective - problem.value if OBJECTIVE in metric.supplies else trial.kl
    half = torch.dot(d, curvature.product(d)) / 2
    if OBJECTIVE in metric.supplies:
        actual, model = measured, torch.dot(g, d) - half - problem.l2 / 2 * torch.dot(d, d)
    else:
        actual, model = half, torch.as_tensor(measured)
    return torch.where(model > 0, actual / model, torch.nan)


def _report(step: Scalars, solution: Solution, value: Tensor, squared: Tensor | float, coefficients: State) -> Report:
    """The report of a finite step; ``squared`` is |g|^2, ``coefficients`` are those of an adaptive objective."""
    n = solution.iterations
    solved: Scalars = {} if n is None else {"solver/iterations": n, "damping/value": solution.damping}
    scalars: Scalars = {
        **step,
        "objective/value": value,
        "objective/gradient_norm": squared**0.5,
        **solved,
        **solution.scalars,
        **{f"objective/{name}": coefficient for name, coefficient in coefficients.items()},
    }
    return Report(None, scalars, {"solver/residual": lambda: solution.residual} if solved else {})


def first_nonfinite(named: Mapping[str, Tensor | float], over_ranks: bool = False) -> str | None:
    """Name of the first tensor that holds a NaN or an infinity, or None. Reads the device once.

    A tensor's sum is finite if and only if no entry is bad, unless finite entries overflow it, which is as bad.
    ``over_ranks``: the tensors differ from rank to rank, and all ranks get the same answer.
    """
    totals: Sequence[Tensor | float] = [x if isinstance(x, float) or x.ndim == 0 else x.sum() for x in named.values()]
    if over_ranks or not all(isinstance(x, float) for x in totals):
        sums = torch.stack([torch.as_tensor(x) for x in totals])
        totals = (all_sum(sums) if over_ranks else sums).tolist()
    return next((name for name, total in zip(named, totals, strict=True) if not math.isfinite(total)), None)
