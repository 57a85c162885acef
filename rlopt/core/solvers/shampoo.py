"""Shampoo: x = L^-1/4 G R^-1/4 for every matrix G (J, I) of the gradient (Gupta, Koren and Singer 2018, algorithm 1).

    L = sum_t G_t G_t^T + lambda I (J, J),   R = sum_t G_t^T G_t + lambda I (I, I),   or running means of them
    X = L^e G R^e,   e = -1/4;   a vector g (D,), with L = sum_t g_t g_t^T + lambda I (D, D), x = L^(2 e) g

L^1/2 (x) R^1/2 bounds the sum of g g^T over updates, but for a factor of the rank (their lemma 8). That sum is the M of
AdaGrad with the full matrix. So X is to AdaGrad's direction M^-1/2 g as K-FAC's is to the natural gradient, and of a
vector it is AdaGrad's.

The first X without lambda is U V^T, from G = U S V^T: all singular values are 1, as Muon has them at every update.
A side of more than ``largest`` numbers keeps the diagonal of L or R alone. Eigenvalues below N roundings of the
largest, which are not known, count as that many: no direction grows by more than its eigenvalue calls for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import Curvature
from rlopt.core.flat import Layout
from rlopt.core.parts import STATISTICS, Requirements, Solution, Solve, Solver, State
from rlopt.core.solvers import matrices
from rlopt.core.solvers.kronecker.factors import eigen


@dataclass(frozen=True)
class Shampoo(Solver):
    """X = (L + lambda I)^e G (R + lambda I)^e for every matrix of theta; lambda is in units of squared gradients.

    The state holds L and R, (J, J) and (I, I) or their diagonals, and their powers.

    Options:
        decay: of L and R, per update; null takes plain sums, 0 or above and below 1 running means.
        exponent: e, -1/2 or above and below 0. -1/4 is Shampoo; a vector, which has one side, takes twice of it.
        refresh: updates from one computation of the powers to the next; 1 or above.
        largest: the longest side that has a whole matrix; 1 or above.

    Source: Gupta, Koren and Singer 2018. Raises ValueError where an option is out of its range, NumericalFailure where
    eigenvalues are not found.
    """

    decay: float | None
    exponent: float
    refresh: int
    largest: int

    needs: ClassVar[frozenset[str]] = frozenset({STATISTICS})
    requirements: ClassVar[Requirements] = Requirements(linear=False)

    def __post_init__(self) -> None:
        if self.decay is not None:
            check(0 <= self.decay < 1, "decay", "null, or 0 or above and below 1", self.decay)
        check(-0.5 <= self.exponent < 0, "exponent", "-0.5 or above, and below 0", self.exponent)
        at_least_one("refresh", self.refresh)
        at_least_one("largest", self.largest)

    def init(self) -> State:
        return {"updates": 0, "sides": {}, "powers": {}}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        return partial(self._solve, state, matrices.layout_of(curvature), damping), state

    def _solve(self, state: State, layout: Layout, damping: Tensor | float, g: Tensor) -> Solution:
        G, updates = matrices.split(g, layout), state["updates"]
        sides = {name: self._averaged(state["sides"].get(name, {}), part, updates) for name, part in G.items()}
        powers = state["powers"]
        if updates % self.refresh == 0:
            powers = {name: self._powers(name, side, damping) for name, side in sides.items()}
        X = {name: _between(powers[name], part) for name, part in G.items()}
        return matrices.solution(X, G, damping, {"updates": updates + 1, "sides": sides, "powers": powers})

    def _averaged(self, before: State, G: Tensor, updates: int) -> State:
        """L, and of a matrix R too, with this gradient in them."""
        now = {"L": self._second_moments(G)} if G.ndim == 1 else second_moments(G, self.largest)
        if self.decay is None:
            return {side: before[side] + x for side, x in now.items()} if before else now
        return {side: matrices.mean(before.get(side), x, self.decay, updates) for side, x in now.items()}

    def _second_moments(self, g: Tensor) -> Tensor:
        """g g^T (D, D), or its diagonal."""
        return torch.outer(g, g) if len(g) <= self.largest else g * g

    def _powers(self, name: str, sides: State, damping: Tensor | float) -> State:
        e = self.exponent if len(sides) > 1 else 2 * self.exponent
        return {side: power(S, damping, e, name) for side, S in sides.items()}


def second_moments(G: Tensor, largest: int) -> State:
    """L = G G^T and R = G^T G of a matrix (J, I), or the diagonal of one that would have a longer side."""
    J, I = G.shape  # noqa: E741
    square = G * G
    return {
        "L": G @ G.t() if J <= largest else square.sum(1),
        "R": G.t() @ G if I <= largest else square.sum(0),
    }


def power(S: Tensor, damping: Tensor | float, exponent: float, name: str) -> Tensor:
    """(S + lambda I)^exponent of S (N, N), or entry by entry of a diagonal (N,); 0 where S is 0 and lambda too.

    Eigenvalues are at least N roundings of the largest. Without lambda, and S = g g^T, the product with g has an error
    of some percent for exponent -1, of about the root of a rounding for -1/2.

    Raises NumericalFailure where the eigenvalues, of a statistic of the parameter ``name``, are not found.
    """
    mu, Q = (S, None) if S.ndim == 1 else eigen(S, name)
    mu = mu.clamp(min=len(mu) * torch.finfo(mu.dtype).eps * mu.amax()) + damping
    powers = torch.where(mu > 0, mu**exponent, 0.0)
    return powers if Q is None else (Q * powers) @ Q.t()


def _between(powers: State, G: Tensor) -> Tensor:
    """L^e G R^e of a matrix (J, I), L^(2 e) g of a vector (D,)."""
    L: Tensor = powers["L"]
    if "R" not in powers:
        return L @ G if L.ndim == 2 else L * G
    R: Tensor = powers["R"]
    X = L @ G if L.ndim == 2 else L[:, None] * G
    return X @ R if R.ndim == 2 else X * R
