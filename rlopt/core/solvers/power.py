"""Power solver: x = (M + lambda I)^exponent g; with -1/2 and M = sum_t g_t g_t^T AdaGrad (Duchi et al. 2011, figure 1).

    full       M = Q diag(mu) Q^T, x = Q diag((mu + lambda)^exponent) Q^T g
    diagonal   x = (m + lambda)^exponent g, entry by entry, with m (P,) the diagonal of M

Eigenvalues within P roundings of 0 count as 0. Where mu + lambda is 0 the power is that of the pseudo-inverse, 0, if g
has nothing there; otherwise there is no x (NaN). The solver's own matrix is M_s = (M + lambda I)^-exponent, which has
the damping within the power: `Solution.damping`, which is added to M_s, is 0, and the scalar damping/value is lambda.

lambda is AdaGrad's epsilon, there for the first updates and for directions without gradients. It is in units of squared
gradients: with one that is large beside them x is g itself, times lambda^exponent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure, check
from rlopt.core.curvature import Curvature, Given
from rlopt.core.parts import HISTORY, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Work
from rlopt.core.solvers.dense import EIGENVECTORS, check_finite, eigenvalues


def _work(curvature: Curvature) -> Work:
    full = cast(Given, curvature).entries.ndim == 2
    return Work(operations=EIGENVECTORS * float(curvature.size) ** 3 if full else 0.0)


@dataclass(frozen=True)
class Power(Solver):
    """x = (M + lambda I)^exponent g, for a metric M of past gradients, full (P, P) or diagonal (P,).

    Options:
        exponent: -1 or above and below 0; -1/2 is AdaGrad.

    Source: Duchi et al. 2011, figure 1. Raises ValueError where it is out of its range, NumericalFailure where M holds
    a number that is not finite or M + lambda I a negative eigenvalue.
    """

    exponent: float

    needs: ClassVar[frozenset[str]] = frozenset({HISTORY})
    requirements: ClassVar[Requirements] = Requirements(work=_work)

    def __post_init__(self) -> None:
        check(-1 <= self.exponent < 0, "exponent", "-1 or above and below 0", self.exponent)

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        entries = cast(Given, curvature).entries
        check_finite(entries)
        if entries.ndim == 1:
            mu, Q = entries, None
        else:
            mu, Q = eigenvalues(entries)
            mu = torch.where(mu.abs() <= len(mu) * torch.finfo(mu.dtype).eps * mu.abs().amax(), 0.0, mu)
        base = mu + damping
        if (base < 0).any():
            raise NumericalFailure("the metric has a negative eigenvalue, of which there is no real power")

        def solve(g: Tensor) -> Solution:
            c = g if Q is None else Q.t() @ g
            none = base == 0
            rounding = 0.0 if Q is None else torch.finfo(g.dtype).eps ** 0.5
            lost = ~(torch.where(none, c, 0.0).norm() <= rounding * g.norm())
            y = torch.where(none, torch.where(lost, torch.nan, 0.0), base**self.exponent * c)
            My = torch.where(none, 0.0, base**-self.exponent * y)
            x, Mx = (y, My) if Q is None else (Q @ y, Q @ My)
            return Solution.measured(g, x, Mx, 0.0, scalars={"damping/value": damping})

        return solve, state
