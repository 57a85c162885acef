"""Dense solver: Cholesky factorisation of M + lambda I, O(P^3); for small networks and as the truth in tests.

When the factorisation fails lambda goes to max(10 lambda, 1e-8 mean diag M) until it holds, and the lambda used is
reported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.failure import NumericalFailure
from rlopt.core.parts import PRODUCT, Solution, State

_ATTEMPTS = 8  # raises of lambda before giving up


@dataclass(frozen=True)
class Dense:
    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT})

    def init(self) -> State:
        return {}

    def prepare(
        self, state: State, curvature: Curvature, damping: Tensor | float
    ) -> tuple[Callable[[Tensor], Solution], State]:
        matrix = curvature.dense()
        factor, used = factorise(matrix, damping)

        def solve(g: Tensor) -> Solution:
            x = torch.cholesky_solve(g[:, None], factor).squeeze(1)
            Mx = matrix @ x
            norm = g.norm()
            return Solution(
                x=x,
                iterations=0.0,
                residual=torch.where(norm > 0, (g - Mx - used * x).norm() / norm, 0.0),
                quadratic=torch.dot(x, Mx),
                damping=used,
            )

        return solve, state


def factorise(matrix: Tensor, damping: Tensor | float) -> tuple[Tensor, Tensor | float]:
    """Lower Cholesky factor of ``matrix + damping I`` (P, P), and the damping with which it held.

    Raises NumericalFailure when the matrix holds a NaN or no damping of eight suffices.
    """
    if not matrix.sum().isfinite():
        raise NumericalFailure("the metric's matrix holds a number that is not finite")
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    least = 1e-8 * matrix.diagonal().mean().abs()
    used = damping
    for attempt in range(_ATTEMPTS + 1):
        if attempt:
            used = torch.maximum(10 * torch.as_tensor(used, dtype=matrix.dtype), least)
        factor, info = torch.linalg.cholesky_ex(matrix + used * identity)
        if not info:
            return factor, used
    raise NumericalFailure(
        f"Cholesky factorisation failed with damping up to {float(used):.3g}; start from a larger damping.value"
    )
