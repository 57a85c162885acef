"""Dense solver: a factorisation of the whole matrix M + lambda I, O(P^3); for small networks and as the truth in tests.

| indefinite | solves with                                    | by                                                |
|---|---|---|
| refuse     | M + lambda I                                   | Cholesky                                          |
| absolute   | sum_i (abs mu_i + lambda) q_i q_i^T            | eigenvalues (saddle-free Newton, Dauphin et al. 2014) |
| shift      | M + (lambda - min(0, mu_1)) I                  | eigenvalues, mu_1 the least                       |

mu_i, q_i are M's eigenvalues and eigenvectors. With the last two every direction lies in the gradient's half-plane
whatever the signs of mu; for a positive semidefinite M all three are the same. A shift is a larger lambda, and is
reported as that: lambda - min(0, mu_1).

When the factorisation fails, or rounding has taken a pivot or eigenvalue, lambda goes to max(10 lambda, 1e-8 mean
diag M) until it holds, and the lambda used is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import PRODUCT, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Incompatible, Remedy, Work

_ATTEMPTS = 8  # raises of lambda before giving up
EIGENVECTORS = 9  # times P^3: operations for eigenvalues and eigenvectors of a matrix (P, P)
_LOST = 10  # a pivot or eigenvalue below this many roundings of its matrix's largest is none


def _check_size(size: int) -> None:
    """Raise Incompatible where the matrix, in float32, is larger than this machine's memory."""
    if 4 * size**2 > (memory := _memory()):
        reason = (
            f"a matrix of {size:,} x {size:,} numbers takes {4e-9 * size**2:,.0f} GB, and here are {memory / 1e9:,.0f}"
        )
        raise Incompatible(reason, Remedy.OTHER_SOLVER)


def _memory() -> float:
    """Bytes of this machine's memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return float("inf")


@dataclass(frozen=True)
class Dense(Solver):
    """x with (M + lambda I) x = g, by a factorisation of the whole matrix: P^2 numbers and O(P^3) operations.

    Options:
        indefinite: refuse raises NumericalFailure where an eigenvalue plus lambda is negative; absolute takes the
            absolute values of all eigenvalues; shift raises all of them until none is negative.

    Source: Cholesky; Dauphin et al. 2014 for absolute. Raises ValueError for another word, NumericalFailure where M
    holds a number that is not finite or no lambda of eight suffices.
    """

    indefinite: Literal["refuse", "absolute", "shift"]

    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT})

    @property
    def requirements(self) -> Requirements:
        return Requirements(check_size=_check_size, work=self._work)

    def __post_init__(self) -> None:
        choices = ("refuse", "absolute", "shift")
        check(self.indefinite in choices, "indefinite", "refuse, absolute or shift", self.indefinite)

    def _work(self, curvature: Curvature) -> Work:
        P = float(curvature.size)
        return Work(products=P, operations=P**3 / 3 if self.indefinite == "refuse" else EIGENVECTORS * P**3)

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        matrix = curvature.dense()
        if self.indefinite == "refuse":
            factor, used = factorise(matrix, damping)

            def solve(g: Tensor) -> Solution:
                x = torch.cholesky_solve(g[:, None], factor).squeeze(1)
                return Solution.measured(g, x, matrix @ x, used)

            return solve, state

        mu, Q = eigenvalues(matrix)
        mu = mu.abs() if self.indefinite == "absolute" else mu
        shift = -mu[0].clamp(max=0)
        raised = mu + shift
        used = damping_for(raised, damping)

        def solve_by_eigenvalues(g: Tensor) -> Solution:
            x = Q @ (Q.t() @ g / (raised + used))
            return Solution.measured(g, x, Q @ (mu * (Q.t() @ x)), shift + used)

        return solve_by_eigenvalues, state


def factorise(matrix: Tensor, damping: Tensor | float) -> tuple[Tensor, Tensor | float]:
    """Lower Cholesky factor of ``matrix + damping I`` (P, P), and the damping with which it held.

    Raises NumericalFailure when the matrix holds a NaN or no damping of eight suffices.
    """
    (factor,), used = factorise_blocks([matrix], damping)
    return factor, used


def factorise_blocks(blocks: Sequence[Tensor], damping: Tensor | float) -> tuple[list[Tensor], Tensor | float]:
    """`factorise` of the blocks of one matrix, in batches (..., N, N): one damping with which all factors hold."""
    diagonals = [block.diagonal(dim1=-2, dim2=-1) for block in blocks]
    check_finite(*blocks)
    for used in dampings(damping, torch.cat([d.flatten() for d in diagonals]).mean(), "Cholesky factorisation failed"):
        factors = []
        for block, diagonal in zip(blocks, diagonals, strict=True):
            factor, info = torch.linalg.cholesky_ex(block + torch.diag_embed(torch.zeros_like(diagonal) + used))
            pivots = factor.diagonal(dim1=-2, dim2=-1).square().amin(-1)
            if info.any() or not _above_rounding(pivots, (diagonal + used).amax(-1)):
                break
            factors.append(factor)
        else:
            return factors, used
    raise AssertionError  # dampings ends in a NumericalFailure


def eigenvalues(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (P,), least first, and eigenvectors (P, P). Raises NumericalFailure where the matrix holds a NaN."""
    check_finite(matrix)
    try:
        mu, Q = torch.linalg.eigh(matrix)
    except RuntimeError as error:  # LinAlgError is one
        raise NumericalFailure(f"the eigenvalues of the metric's matrix were not found: {error}") from error
    return mu, Q


def damping_for(mu: Tensor, damping: Tensor | float) -> Tensor | float:
    """The damping with which every mu + damping is above rounding, for eigenvalues mu (N,)."""
    for used in dampings(damping, mu.mean(), "solution by eigenvalues failed"):
        if _above_rounding((mu + used).amin(), (mu + used).amax()):
            return used
    raise AssertionError


def _above_rounding(least: Tensor, largest: Tensor) -> bool:
    return bool((least > _LOST * torch.finfo(least.dtype).eps * largest.clamp(min=0)).all())


def dampings(damping: Tensor | float, mean: Tensor, said: str) -> Iterator[Tensor | float]:
    """The damping asked for, then larger ones; NumericalFailure when all are used up. mean: of M's diagonal."""
    yield damping
    used = torch.as_tensor(damping, dtype=mean.dtype, device=mean.device)
    for _ in range(_ATTEMPTS):
        used = torch.maximum(10 * used, 1e-8 * mean.abs())
        yield used
    raise NumericalFailure(f"{said} with damping up to {float(used):.3g}; start from a larger damping")


def check_finite(*matrices: Tensor) -> None:
    """Raise NumericalFailure where a matrix, or a diagonal, holds a NaN or an infinity."""
    if not torch.stack([matrix.sum() for matrix in matrices]).isfinite().all():
        raise NumericalFailure("the metric's matrix holds a number that is not finite")
