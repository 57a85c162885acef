"""SPRING: another solver's direction, with what M does not see of the last one carried on (Goldshlager et al. 2024).

    d = mu d_prev + (M + lambda I)^-1 (g - mu M d_prev)

which minimises 1/2 d^T M d - g^T d + lambda / 2 |d - mu d_prev|^2: the damping pulls towards mu d_prev in place of 0.
The batch decides where M is large beside lambda, and earlier batches elsewhere. With a metric whose matrix is S^T S, of
few samples S, this is a randomised Kaczmarz method with momentum (arXiv 2508.21022).

Half-plane. With an exact solver d = (M + lambda I)^-1 (g + mu lambda d_prev), so that

    g^T d = g^T N g + mu lambda g^T N d_prev,     N = (M + lambda I)^-1

which is above 0 while M and g stay the same, and as long as mu lambda |d_prev|_N < |g|_N, but not for any d_prev. So
where g^T d is not above 0 the solver's own direction is taken, and memory starts again from it.

Where the metric is a Hessian, l2 is part of lambda here, as it is for every solver: it pulls towards mu d_prev too.

With mu = 0, and at the first update, d is the solver's own, to the bit. M is the metric's matrix, also where the solver
has an approximation of it. The residual is that of the solver's own system, whose right-hand side is g - mu M d_prev.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import (
    COMPATIBLE,
    EUCLIDEAN,
    HISTORY,
    PRODUCT,
    STATISTICS,
    Requirements,
    Solution,
    Solve,
    Solver,
    State,
)
from rlopt.core.requirements import with_inner
from rlopt.parallel.collectives import all_ranks


@dataclass(frozen=True)
class Spring(Solver):
    """mu d_prev + x, with x the solver ``of``'s for the right-hand side g - mu M d_prev; the state holds d.

    Options:
        of: another solver of (M + lambda I) x = g, for any g.
        momentum: mu, 0 or above and below 1. 0 is the other solver alone.

    It costs a product more than the other solver, two with a step that asks for d^T M d, such as trust_region.

    Source: Goldshlager, Abrahamsen and Lin 2024, SPRING; arXiv 2505.12149. Raises ValueError where an option is out of
    its range.
    """

    of: Solver
    momentum: float

    def __post_init__(self) -> None:
        other = {COMPATIBLE, EUCLIDEAN, HISTORY, STATISTICS} & self.of.needs or isinstance(self.of, Spring)
        check(not other, "of", "a solver of (M + lambda I) x = g", type(self.of).__module__.rpartition(".")[2])
        check(0 <= self.momentum < 1, "momentum", "0 or above, and below 1", self.momentum)

    @property
    def requirements(self) -> Requirements:
        return with_inner(self.of.requirements, "of", linear=False, reads_damping=True)

    @property
    def needs(self) -> frozenset[str]:
        return self.of.needs | {PRODUCT}

    def init(self) -> State:
        return {"of": self.of.init()}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        inner, nested = self.of.prepare(state["of"], curvature, damping)
        last = state.get("direction") if self.momentum else None

        def solve(g: Tensor) -> Solution:
            if last is None:
                return self._kept(inner(g), nested)
            carried = self.momentum * last
            found = inner(g - curvature.product(carried))
            d = carried + found.x
            uphill = torch.dot(g, d)
            if not all_ranks((uphill > 0) | uphill.isnan()):
                return self._kept(inner(g), nested, restarted=1.0)
            found = replace(found, x=d, form=lambda: torch.dot(d, curvature.product(d)), squared=None)
            return self._kept(found, nested)

        return solve, {**state, "of": nested}

    def _kept(self, solution: Solution, nested: State, restarted: float = 0.0) -> Solution:
        """The solution with the other solver's state and d; for mu = 0 as it is, but for where its state lies."""
        state: State = {"of": {**nested, **solution.state}} if solution.state else {}
        if not self.momentum:
            return replace(solution, state=state)
        scalars = {**solution.scalars, "solver/restarted": restarted}
        return replace(solution, scalars=scalars, state={**state, "direction": solution.x})
