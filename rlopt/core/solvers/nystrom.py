"""Nystrom solver: M from one block of products with random vectors, for CG's preconditioner (Frangella et al. 2023).

    Y = M Omega,   Omega (P, r) with orthonormal columns,   M_r = Y (Omega^T Y)^-1 Y^T = Q diag(mu) Q^T
    (M_s + lambda I)^-1 g = Q ((Q^T g) / (mu + lambda)) + (g - Q Q^T g) / (mu_r + lambda)

mu_r, the least of the r eigenvalues, stands for all that the block has not seen: M_s = M_r + mu_r (I - Q Q^T). As a
preconditioner of CG this is the paper's, divided by mu_r + lambda, which changes nothing there. The r products are one
block, where Lanczos (`low_rank`) makes them one after another. M_r is formed as in the paper's algorithm 2.1, with M
shifted by the rounding of Y, which is taken off again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure, at_least_one, non_negative
from rlopt.core.curvature import Curvature, block_product
from rlopt.core.parts import PRODUCT, SEMIDEFINITE, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Work
from rlopt.core.seeds import seeded
from rlopt.core.solvers.dense import check_finite, damping_for, eigenvalues


@dataclass(frozen=True)
class Nystrom(Solver):
    """x with (M_s + lambda I) x = g, M_s the randomised Nystrom approximation of M of rank r; it preconditions CG.

    The state counts the blocks that were drawn.

    Options:
        rank: r, products of M in one block; 1 or above, P at most.
        seed: of the random vectors; new ones after every step that is taken; 0 or above.

    Source: Frangella, Tropp and Udell 2023, algorithm 2.1. Raises ValueError where an option is out of
    its range, NumericalFailure where M holds a number that is not finite or no lambda of eight suffices.
    """

    rank: int
    seed: int

    def __post_init__(self) -> None:
        at_least_one("rank", self.rank)
        non_negative("seed", self.seed)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({PRODUCT, SEMIDEFINITE})

    @property
    def requirements(self) -> Requirements:
        return Requirements(work=self._work)

    def _work(self, curvature: Curvature) -> Work:
        P, r = float(curvature.size), float(min(self.rank, curvature.size))
        return Work(products=r, operations=12 * P * r**2)

    def init(self) -> State:
        return {"blocks": 0}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        kept: list[tuple[Tensor, Tensor]] = []  # once the first g has shown its type and device

        def solve(g: Tensor) -> Solution:
            if not kept:
                kept.append(self._pairs(curvature, state["blocks"], g))
            mu, Q = kept[0]
            used = damping_for(mu, damping)
            c = Q.t() @ g
            rest = (g - Q @ c) / (mu[0] + used)
            x, Mx = Q @ (c / (mu + used)) + rest, Q @ (c * mu / (mu + used)) + mu[0] * rest
            return Solution.measured(g, x, Mx, used, float(len(mu)))

        return solve, {"blocks": state["blocks"] + 1}

    def _pairs(self, curvature: Curvature, number: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues mu (r,), least first, and vectors Q (P, r) of M_r, of the type and on the device of ``like``."""
        P, r = curvature.size, min(self.rank, curvature.size)
        draws = torch.randn(P, r, generator=seeded(self.seed, number), dtype=torch.float64)
        Omega = torch.linalg.qr(draws)[0].to(like)
        Y = block_product(curvature, Omega)
        check_finite(Y)
        shift = (torch.finfo(Y.dtype).eps * Y.norm()).clamp(min=torch.finfo(Y.dtype).tiny)
        Y = Y + shift * Omega
        inner = Omega.t() @ Y
        B = _by_root((inner + inner.t()) / 2, Y)
        try:
            Q, s, _ = torch.linalg.svd(B, full_matrices=False)
        except RuntimeError as error:  # LinAlgError is one
            raise NumericalFailure(f"the singular values of the metric's products were not found: {error}") from error
        mu = s.square() - shift
        return torch.where(mu > 10 * torch.finfo(mu.dtype).eps * s.square(), mu, 0.0).flip(0), Q.flip(1)


def _by_root(inner: Tensor, Y: Tensor) -> Tensor:
    """Y C^-T with C C^T = inner (r, r); what of it rounding has made negative or 0 is left out."""
    factor, info = torch.linalg.cholesky_ex(inner)
    if not info:
        by_factor: Tensor = torch.linalg.solve_triangular(factor, Y.t(), upper=False).t()
        return by_factor
    mu, V = eigenvalues(inner)
    root = torch.where(mu > len(mu) * torch.finfo(mu.dtype).eps * mu[-1], mu, torch.inf).rsqrt()
    found: Tensor = Y @ (V * root)
    return found
