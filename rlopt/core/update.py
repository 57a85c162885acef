"""The one equation: theta <- theta + alpha (M(theta) + lambda I)^-1 g.

| symbol | is                                   | from          |
|---|---|---|
| z      | outputs (B, O) at theta              | tape          |
| g      | gradient (P,) of the mean objective  | objective     |
| M      | metric (P, P), by its products       | metric        |
| lambda | damping                              | damping       |
| x      | direction, (M + lambda I) x = g      | solver        |
| alpha  | length of the step, 0 if rejected    | step          |

With l2 > 0 the objective, and so g, loses l2 / 2 |theta|^2; M gains l2 I where it is a Hessian, and only there, so that
every metric's step leads to the same theta.

New theta and new states are returned together or not at all: when objective, gradient or direction is not finite the
old ones are returned as they were, and the report names the first bad quantity. Of a step that is rejected only damping
learns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from rlopt.core.agreement import agreement, refused
from rlopt.core.checks import non_negative
from rlopt.core.failure import NumericalFailure, first_nonfinite
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.objectives.objective import Objective, adaptive
from rlopt.core.parts import HISTORY, OBJECTIVE, Damping, History, Metric, Scalars, Solver, State, Step
from rlopt.core.problem import Problem
from rlopt.core.samples import Samples
from rlopt.parallel.collectives import all_sums, world_size


@dataclass(frozen=True)
class Report:
    """What one update did. ``failure`` is None or says what was not finite; then nothing was changed."""

    failure: str | None = None
    scalars: Scalars = field(default_factory=dict)
    later: Mapping[str, Callable[[], Tensor | float]] = field(default_factory=dict)  # scalars that cost something

    def read(self) -> Scalars:
        """All scalars; what they cost is paid here, so for the steps alone that somebody looks at."""
        return {**self.scalars, **{name: work() for name, work in self.later.items()}}


@dataclass(frozen=True)
class Update:
    network: Network
    head: Head
    objective: Objective
    metric: Metric
    solver: Solver
    damping: Damping
    step: Step
    l2: float = 0.0  # >= 0; the objective loses l2 / 2 |theta|^2

    def __post_init__(self) -> None:
        non_negative("l2", self.l2)
        if refusal := refused(self.damping, self.metric):
            raise ValueError(f"damping={self.damping} cannot serve metric={self.metric}: {refusal}")

    def init(self, theta: Tensor) -> State:
        """The parts' states before the first update."""
        return {
            "metric": self.metric.init(),
            "solver": self.solver.init(),
            "damping": self.damping.init(),
            "step": self.step.init(theta),
            "objective": own.init() if (own := adaptive(self.objective)) else {},
        }

    def current_objective(self, state: State) -> Objective:
        """The objective as it stands."""
        own = adaptive(self.objective)
        return own.at(state["objective"]) if own else self.objective

    @torch.no_grad()
    def __call__(self, theta: Tensor, state: State, samples: Samples) -> tuple[Tensor, State, Report]:
        """One step on these samples, from theta (P,)."""
        tape, objective = self.network.tape(theta, samples.inputs), self.current_objective(state)
        values, dz = objective.values_and_gradient(self.head, tape.outputs, samples)
        share = samples.share
        failed: NumericalFailure | None = None
        try:
            curvature, metric_state = self.metric.bind(state["metric"], tape, self.head, samples, objective)
        except NumericalFailure as failure:  # of this rank's samples: all must hear of it before they go on
            failed = failure
        ill = values.new_full((), float(failed is not None))
        g, value, ill = all_sums(tape.vjp(dz * share[:, None]), torch.dot(share, values), ill)

        damping = self.damping.current(state["damping"])
        if self.l2:
            g, value = g - self.l2 * theta, value - self.l2 / 2 * torch.dot(theta, theta)
            if OBJECTIVE in self.metric.supplies:  # M is minus a Hessian, and this is the term's own
                damping = damping + self.l2
            if HISTORY in self.metric.supplies:
                curvature, metric_state = cast(History, self.metric).add(state["metric"], g)
        try:
            if failed or (world_size() > 1 and ill):
                raise failed or NumericalFailure("the metric of another rank's samples")
            solve, solver_state = self.solver.prepare(state["solver"], curvature, damping)
            solution = solve(g)
        except NumericalFailure as failure:
            bad = first_nonfinite({"objective": value, "gradient": g})
            return theta, state, Report(bad or str(failure))
        squared = torch.dot(g, g)
        plain = solution.x is g
        direction = {} if plain else {"direction": solution.x}
        if bad := first_nonfinite({"objective": value, "gradient": squared, **direction}):
            return theta, state, Report(bad)

        problem = Problem(self.network, self.head, objective, samples, tape, value, self.l2)
        slope = squared if plain else torch.dot(g, solution.x)
        judged = self.damping.measures
        own = theta.clone() if judged else theta  # which an optimizer overwrites, while the tape still reads theta
        moved, step_state, scalars = self.step.step(state["step"], own, solution, slope, problem)
        taken = bool(scalars["step/accepted"])
        if judged and taken:
            rho = agreement(self.metric, curvature, g, moved - theta, moved, problem, scalars)
            scalars = {**scalars, "damping/agreement": rho}
        scalars = {
            **scalars,
            **solution.scalars,
            "objective/value": value,
            "objective/gradient_norm": squared.sqrt(),
            "solver/iterations": solution.iterations,
            "damping/value": solution.damping,
            **{f"objective/{name}": value for name, value in state["objective"].items()},
        }
        new_state = {
            **state,
            "metric": metric_state if taken else state["metric"],
            "solver": {**solver_state, **solution.state} if taken else state["solver"],
            "damping": self.damping.adapt(state["damping"], scalars),
            "step": step_state,
        }
        later = {"solver/residual": lambda: solution.residual}
        return moved if taken else theta, new_state, Report(None, scalars, later)
