"""The parts of an update and what they promise one another.

Metrics, solvers, damping and steps are functional in their state: they take it and return a new one, made of plain
tensors and numbers that a checkpoint can hold. An optimizer alone may change its own in place, once the gradient is
known to be finite.

| part    | question                                  | state                        |
|---|---|---|
| metric  | what is the distance between two thetas?  | past gradients, if any       |
| solver  | how is (M + lambda I) x = g solved?       | running statistics, if any   |
| damping | what is lambda?                           | lambda, if it adapts         |
| step    | how far along x?                          | momentum, counters, if any   |
| estimator | how is g estimated, of a policy's update? | a theta and a gradient there, if any |

Each also says in ``requirements`` what else it asks of a run, see `requirements.Requirements`; so does an objective,
see `problem.Objective`. A class that names its Protocol as its base, `class CG(Solver)`, inherits the defaults below:
no state, no requirements. A class of yours need not name it, and then has these methods itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.heads import Head
from rlopt.core.importance import Batch
from rlopt.core.problem import Objective as Objective
from rlopt.core.problem import Problem
from rlopt.core.requirements import Requirements as Requirements
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape

State = dict[str, Any]  # nested: str -> Tensor, float, int, or another State
Scalars = Mapping[str, Tensor | float]
Bound = tuple[Curvature, State]  # what `Metric.bind` returns: M and the metric's new state
Taken = tuple[Tensor, State, Scalars]  # what `Step.step` returns: theta, the step's new state and scalars

# Capabilities that a metric may supply and a solver may need.
PRODUCT = "product"  # v -> M v
ROOT = "root"  # C = sum_k u_k u_k^T in output space, hence statistics per layer
BATCH = "single_batch"  # M is of this batch alone, at one theta; for solvers that average over updates themselves
GRADIENT = "gradient"  # M is the derivative of a gradient, known at other thetas too
EUCLIDEAN = "euclidean"  # M = I
SEMIDEFINITE = "semidefinite"  # v^T M v >= 0 for every v
HISTORY = "history"  # M is a sum over past gradients, for its power -1/2
STATISTICS = "statistics"  # M is what the solver makes of the gradients that it is given, update after update
COMPATIBLE = "compatible"  # the direction itself; not a metric's to supply but a compatible critic's
# M is a model of one of these, where that can be measured; an adaptive damping needs one of the two.
KL = "kl"  # 1/2 d^T M d is the mean KL divergence of a step d, nats, to second order
OBJECTIVE = "objective"  # g^T d - 1/2 d^T M d is its improvement, to second order or by Gauss-Newton


class Metric(Protocol):
    """The distance between two parameter vectors: a matrix M (P, P), bound to a tape and its samples."""

    @property
    def requirements(self) -> Requirements:
        return Requirements()

    @property
    def supplies(self) -> frozenset[str]:
        """The capabilities of the curvatures it binds, from the constants above; they may depend on its options."""

    def init(self) -> State:
        return {}

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        """M at this tape's theta, on these samples."""


class History(Metric, Protocol):
    """A metric that supplies HISTORY."""

    def add(self, state: State, g: Tensor) -> Bound:
        """M with g (P,) as the newest gradient; `bind` takes the objective's, which leaves out what l2 adds."""


@dataclass(frozen=True)
class Solution:
    """x with (M + lambda I) x = g, exactly or nearly. Its figures are for the matrix that the solver solves with."""

    x: Tensor  # (P,)
    iterations: Tensor | float | None  # None: there was no system to solve, which then has no scalars
    error: Tensor | float | Callable[[], Tensor]  # the residual, or a function that computes it when it is read
    form: Tensor | Callable[[], Tensor]  # x^T M x without the damping, or a function that computes it
    damping: Tensor | float  # lambda that was used; above the one asked for where a factorisation needed it
    scalars: Scalars = field(default_factory=dict)  # worth a curve; damping/value where lambda acts within M_s
    state: State = field(default_factory=dict)  # kept of x by the solver, beside the state `prepare` returned
    squared: Tensor | float | None = None  # x^T x, where the solver has it

    @property
    def residual(self) -> Tensor | float:
        """|g - (M + lambda I) x| / |g|."""
        return self.error() if callable(self.error) else self.error

    @property
    def quadratic(self) -> Tensor:
        """x^T M x, undamped."""
        return self.form() if callable(self.form) else self.form

    @classmethod
    def measured(
        cls,
        g: Tensor,
        x: Tensor,
        Mx: Tensor | Callable[[], Tensor],
        damping: Tensor | float,
        iterations: Tensor | float = 0.0,
        scalars: Scalars | None = None,
    ) -> Solution:
        """The solution x (P,) for g (P,), its figures from Mx = M_s x (P,) with the solver's own matrix M_s.

        A function Mx is called once, when one of them is read.
        """
        norm = g.norm()

        def error(Mx: Tensor) -> Tensor:
            return torch.where(norm > 0, (g - Mx - damping * x).norm() / norm, 0.0)

        product = cache(Mx) if callable(Mx) else None
        return cls(
            x=x,
            iterations=iterations,
            error=(lambda: error(product())) if product else error(cast(Tensor, Mx)),
            form=(lambda: torch.dot(x, product())) if product else torch.dot(x, cast(Tensor, Mx)),
            damping=damping,
            scalars=scalars or {},
        )


Solve = Callable[[Tensor], Solution]  # g (P,) -> x (P,)


class Solver(Protocol):
    """How (M + lambda I) x = g is solved for x (P,), and with which structure."""

    @property
    def requirements(self) -> Requirements:
        return Requirements()

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities it asks of a metric, from the constants above; they may depend on its options."""

    def init(self) -> State:
        return {}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        """Statistics and factorisations, once per update; the function returned solves for any g (P,)."""


class Damping(Protocol):
    """Which lambda (M + lambda I) x = g is solved with, in units of M."""

    measures: ClassVar[bool]  # True: `adapt` wants "damping/agreement" of every step that was taken

    @property
    def requirements(self) -> Requirements:
        return Requirements()

    def init(self) -> State:
        return {}

    def current(self, state: State) -> Tensor | float:
        """lambda >= 0 for the coming solve."""

    def adapt(self, state: State, scalars: Scalars) -> State:
        """State after a step with these scalars, accepted or not."""


class Step(Protocol):
    """How far to go along x (P,), and whether to go at all."""

    adaptive: bool = False  # True: rescales directions itself, and so undoes any metric but the identity

    @property
    def requirements(self) -> Requirements:
        return Requirements()

    def init(self, theta: Tensor) -> State:
        return {}

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        """theta + alpha x, or theta itself where the step is rejected; slope = g^T x.

        The scalars hold "step/accepted", 1 or 0, and "step/size", alpha.
        """

    def advance(self, state: State) -> State:
        """State after a whole update (all its epochs and minibatches): learning-rate schedules."""
        return state


class KLAdaptiveStep(Step, Protocol):
    """A step whose rates may follow the KL divergence of every epoch."""

    @property
    def adapts_to_kl(self) -> bool:
        """Whether they do."""

    def adapt_to_kl(self, state: State, kl: float) -> State:
        """State after an epoch that has the policy ``kl`` nats, mean over states, from the one that acted."""


def kl_adaptive_step(step: Step) -> KLAdaptiveStep | None:
    """The step, if its rates follow the KL."""
    return cast(KLAdaptiveStep, step) if getattr(step, "adapts_to_kl", False) else None


@dataclass(frozen=True)
class Estimate:
    """An estimator's gradient. With ``g`` None no step is taken and theta stays; the state is kept all the same."""

    g: Tensor | None  # (P,)
    state: State
    scalars: Scalars = field(default_factory=dict)


class Estimator(Protocol):
    """How g (P,) is estimated: by the gradient on one batch, or with what batches before it have told."""

    reduces: ClassVar[bool] = False  # True: `estimate` is asked; False: g is the batch's own gradient

    @property
    def requirements(self) -> Requirements:
        return Requirements()

    def init(self) -> State:
        return {}

    def estimate(self, state: State, theta: Tensor, g: Tensor, batch: Batch) -> Estimate:
        """The estimate at theta (P,), which acted; g (P,) is the batch's own gradient, over all ranks' samples."""
        return Estimate(g, state)
