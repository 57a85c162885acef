"""Reference: one metric's eigenvalues and exact solution in float64, which all solvers are compared with.

x is taken for exact where a bound on its relative error is small, with r = g - (M + lambda I) x:

    |x - (M + lambda I)^-1 g| / |x|  <=  |r| / |g| * (mu_1 + lambda) / (mu_P + lambda)

mu_1 is the largest Ritz value; mu_P is 0 for a semidefinite metric, and for others the least Ritz value or 0. Conjugate
gradient finds such an x by products, in networks of every size. The products that gave the Ritz pairs (mu_i, q_i) are
used again, in a preconditioner that solves exactly in their span:

    N r = sum_i q_i (q_i^T r) / (mu_i + lambda) + (r - sum_i q_i (q_i^T r)) / lambda

Where no such x is found within the iterations, and for small networks whose metric may be indefinite, M + lambda I is
factorised, which a large network must ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Curvature
from rlopt.core.parts import PRODUCT, Solution, Solve, Solver, State
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import factorise
from rlopt.core.spectrum import nonzero, ritz_space

_FACTORISED_UP_TO = 1000  # parameters; the matrix of a larger network is formed only where that is asked for
_PRODUCTS, _LEAST_PRODUCTS = 100, 20  # matrix-vector products for a spectrum
_NUMBERS = 1.2e9  # parameters times samples times products that a quick spectrum may take
_ITERATIONS = 100  # of conjugate gradient
_GOAL, _ENOUGH = 1e-6, 1e-5  # the bound at which conjugate gradient stops, and with which x is exact enough to show


@dataclass(frozen=True)
class Reference:
    """What is known of M without any of the solvers."""

    eigenvalues: list[float]  # nonzero Ritz values
    exact: Tensor | None  # (M + lambda I)^-1 g (P,); None where that matrix is not positive definite
    left_out: bool = False  # exact is None because only a factorisation would find it


@dataclass(frozen=True)
class _Deflation(Solver):
    """N of the module's equations."""

    mu: Tensor  # (m,)
    Q: Tensor  # (P, m)

    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT})

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        def solve(r: Tensor) -> Solution:
            c = self.Q.t() @ r
            x = self.Q @ (c / (self.mu + damping)) + (r - self.Q @ c) / damping
            return Solution(x, 0.0, 0.0, torch.dot(x, r), damping)

        return solve, state


def quick_products(size: int, samples: int) -> int:
    """How many products a spectrum gets where time counts: 100 with networks of the usual size, 20 at least."""
    return max(_LEAST_PRODUCTS, min(_PRODUCTS, int(_NUMBERS / (size * samples))))


def find_reference(
    M: Curvature, g: Tensor, damping: float, semidefinite: bool, exact: bool, products: int = _PRODUCTS
) -> Reference:
    """Eigenvalues of M by ``products`` products, and x for g (P,); ``exact`` factorises whatever the size."""
    V, H = ritz_space(M, g, products, seed=0)
    mu, Y = torch.linalg.eigh(H)
    eigenvalues = nonzero(torch.linalg.eigvalsh(H), len(g)).tolist()
    small = len(g) <= _FACTORISED_UP_TO
    if exact or (small and not semidefinite):
        return Reference(eigenvalues, _by_factors(M, g, damping))
    if (mu + damping < 0).any():
        return Reference(eigenvalues, None)
    x = _by_products(M, g, damping, _Deflation(mu, V @ Y), semidefinite)
    if x is None and small:
        x = _by_factors(M, g, damping)
    return Reference(eigenvalues, x, left_out=x is None and not small)


def _by_products(M: Curvature, g: Tensor, damping: float, known: _Deflation, semidefinite: bool) -> Tensor | None:
    """x, or None where it is not exact enough."""
    mu = [0.0, *known.mu.tolist()]
    low = damping + (0.0 if semidefinite else min(mu))
    if low <= 0:
        return None
    condition = (damping + max(mu)) / low
    solver = CG(_ITERATIONS, _GOAL / condition, known, "cold", 0.0)
    x = solver.prepare(solver.init(), M, damping)[0](g).x
    bound = float((g - M.product(x) - damping * x).norm() / g.norm()) * condition  # NaN where x is
    return x if bound <= _ENOUGH else None


def _by_factors(M: Curvature, g: Tensor, damping: float) -> Tensor | None:
    """x, or None where M + damping I is not positive definite beyond rounding."""
    try:
        factor, used = factorise(M.dense(), damping)
    except NumericalFailure:
        return None
    return torch.cholesky_solve(g[:, None], factor).squeeze(1) if used == damping else None
