"""SOAP: Adam in Shampoo's eigenbasis (Vyas et al. 2024, algorithm 3).

    L = mean_t G_t G_t^T = Q_L D Q_L^T,   R = mean_t G_t^T G_t = Q_R D Q_R^T          running means
    G' = Q_L^T G Q_R,   V = mean_t G'_t^2 entry by entry,   M = mean_t G_t,   M' = Q_L^T M Q_R
    X = Q_L [ M' / (sqrt V + lambda) ] Q_R^T

As E-KFAC has the best diagonal in K-FAC's basis, V is a diagonal in Shampoo's; but V goes on from basis to basis, whose
columns are in the order of their eigenvalues, the largest first.

Adam makes all entries equally large, those that are rounding too. Eigenvectors of L are known to a rounding over the
gap between eigenvalues, so that G' has rounding of up to the root of one, times its largest entry, where G has nothing.
So where sqrt V is below that share of its largest entry X has 0.

Vectors, and sides longer than ``largest``, are not turned: with largest=1 the direction is Adam's.

Deviations: eigenvectors, where the paper takes a step of orthogonal iteration towards them for speed (algorithm 4); the
gradient of now counts in L and R before the basis is made of them; and the first update moves theta, where the authors'
code only starts the statistics. With momentum x may point downhill of g, as Adam's may.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one
from rlopt.core.curvature import Curvature
from rlopt.core.flat import Layout
from rlopt.core.parts import STATISTICS, Requirements, Solution, Solve, Solver, State
from rlopt.core.solvers import matrices
from rlopt.core.solvers.kronecker.factors import eigen
from rlopt.core.solvers.shampoo import second_moments


@dataclass(frozen=True)
class SOAP(Solver):
    """Adam's direction, in the eigenbasis of L and R of every matrix; lambda is Adam's epsilon, in units of gradients.

    The state holds M, V, L, R and the bases.

    Options:
        momentum: decay of M, 0 or above and below 1. 0 divides the gradient itself.
        decay: of V, 0 or above and below 1.
        basis_decay: of L and R, 0 or above and below 1.
        refresh: updates from one basis to the next; 1 or above, 10 in the paper.
        largest: the longest side that is turned; 1 or above.

    Source: Vyas et al. 2024. Raises ValueError where an option is out of its range, NumericalFailure where a basis is
    not found.
    """

    momentum: float
    decay: float
    basis_decay: float
    refresh: int
    largest: int

    needs: ClassVar[frozenset[str]] = frozenset({STATISTICS})
    requirements: ClassVar[Requirements] = Requirements(linear=False)

    def __post_init__(self) -> None:
        for name in ("momentum", "decay", "basis_decay"):
            matrices.check_decay(name, getattr(self, name))
        at_least_one("refresh", self.refresh)
        at_least_one("largest", self.largest)

    def init(self) -> State:
        return {"updates": 0, "sides": {}, "bases": {}, "moments": {}}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        return partial(self._solve, state, matrices.layout_of(curvature), damping), state

    def _solve(self, state: State, layout: Layout, damping: Tensor | float, g: Tensor) -> Solution:
        G, t = matrices.split(g, layout), state["updates"]
        sides = {name: self._averaged(state["sides"].get(name, {}), part, t) for name, part in G.items()}
        bases = state["bases"]
        if t % self.refresh == 0:
            bases = {name: {side: basis(S, name) for side, S in both.items()} for name, both in sides.items()}
        moments, X = {}, {}
        for name, part in G.items():
            old, Q = state["moments"].get(name, {}), bases[name]
            m = matrices.mean(old.get("m"), part, self.momentum, t)
            v = matrices.mean(old.get("v"), turned(part, Q).square(), self.decay, t)
            moments[name] = {"m": m, "v": v}
            least = torch.finfo(part.dtype).eps ** 0.5 if Q else 0.0
            X[name] = turned(_divided(turned(m, Q), v, damping, least), Q, back=True)
        kept = {"updates": t + 1, "sides": sides, "bases": bases, "moments": moments}
        return matrices.solution(X, {name: found["m"] for name, found in moments.items()}, damping, kept)

    def _averaged(self, before: State, G: Tensor, updates: int) -> State:
        """L and R of a matrix, those that have a basis, with this gradient in them."""
        now = {} if G.ndim == 1 else second_moments(G, self.largest)
        return {
            side: matrices.mean(before.get(side), S, self.basis_decay, updates)
            for side, S in now.items()
            if S.ndim == 2
        }


def basis(S: Tensor, name: str) -> Tensor:
    """Eigenvectors Q (N, N) of S, that of the largest eigenvalue first.

    Raises NumericalFailure where they are not found.
    """
    _, Q = eigen(S, name)
    return Q.flip(1)


def turned(G: Tensor, bases: State, back: bool = False) -> Tensor:
    """Q_L^T G Q_R, or back Q_L G Q_R^T; a side without a basis stays as it is."""
    for side, Q in bases.items():
        Q = Q if back else Q.t()
        G = Q @ G if side == "L" else G @ Q.t()
    return G


def _divided(m: Tensor, v: Tensor, damping: Tensor | float, least: float) -> Tensor:
    """m / (sqrt v + lambda); 0 where sqrt v is at most ``least`` times its largest entry."""
    size = v.sqrt()
    known = size > least * size.amax()
    return torch.where(known, m / (size + damping), 0.0)
