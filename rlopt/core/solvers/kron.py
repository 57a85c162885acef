"""PSGD with Kronecker factors: a preconditioner P fitted to past gradients, step by step on a Lie group (Li 2018).

    P = Q^T Q,  Q = Q_L (x) Q_R upper triangular, for c(P) = E[g^T P g] + lambda tr P + tr P^-1 to be small;
    of all P that of the least c is (E[g g^T] + lambda I)^-1/2
    A = Q_L G Q_R^T,   E_L = triu(A A^T + lambda |Q_R|^2 Q_L Q_L^T - |Q_R^-1|^2 Q_L^-T Q_L^-1),   E_R likewise of A^T A
    Q_L <- Q_L - rate E_L Q_L / |E_L|,   X = Q_L^T Q_L M Q_R^T Q_R,   M the running mean of G

-2 <E_L, dE> is the change of c where Q_L becomes (I - dE) Q_L: descent relative to Q, which no choice of units
changes. |Q| is the Frobenius norm. |E_L| is a bound of the largest singular value, the root of the largest sum of a
row times that of a column, so that Q stays invertible at every rate below 1.

Deviations: tr P^-1 is E[v^T P^-1 v] over standard normal v, of which the source draws one; lambda tr P is its damping
of G by noise, likewise in expectation. A vector, and a side longer than ``largest``, has a diagonal Q. P begins as a
multiple of I with which the first X has entries of mean square 1. After every step Q_L and Q_R are made equally large,
which changes neither P nor the next step.
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


@dataclass(frozen=True)
class Kron(Solver):
    """X = P M with P fitted to whiten the gradients of every matrix; lambda is in units of squared gradients.

    The state holds Q_L, Q_R and the momentum.

    Options:
        rate: of a step of Q, relative to Q; above 0 and below 1.
        momentum: decay of M, 0 or above and below 1. 0 takes the gradient itself.
        largest: the longest side that has a triangle; 1 or above.

    Source: Li 2018, Preconditioner on matrix Lie group for SGD. Raises ValueError where an option is out of its range.
    """

    rate: float
    momentum: float
    largest: int

    needs: ClassVar[frozenset[str]] = frozenset({STATISTICS})
    requirements: ClassVar[Requirements] = Requirements(linear=False)

    def __post_init__(self) -> None:
        check(0 < self.rate < 1, "rate", "above 0 and below 1", self.rate)
        matrices.check_decay("momentum", self.momentum)
        at_least_one("largest", self.largest)

    def init(self) -> State:
        return {"updates": 0, "factors": {}, "momenta": {}}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        return partial(self._solve, state, matrices.layout_of(curvature), damping), state

    def _solve(self, state: State, layout: Layout, damping: Tensor | float, g: Tensor) -> Solution:
        t, X, factors, momenta = state["updates"], {}, {}, {}
        for name, part in matrices.split(g, layout).items():
            G = part if part.ndim == 2 else part[:, None]
            Q = state["factors"].get(name) or self._first(G)
            factors[name] = Q = self._fitted(Q, G, damping)
            momenta[name] = M = matrices.mean(state["momenta"].get(name), part, self.momentum, t)
            Y = right(Q["R"], left(Q["L"], M.view_as(G)))
            X[name] = right(Q["R"], left(Q["L"], Y, transposed=True), transposed=True)
        return matrices.solution(X, momenta, damping, {"updates": t + 1, "factors": factors, "momenta": momenta})

    def _first(self, G: Tensor) -> State:
        """Q_L and Q_R with Q_L^T Q_L G Q_R^T Q_R = G / rms(G); I where G is 0."""
        size = G.square().mean().sqrt()
        scale = torch.where(size > 0, size, 1.0) ** -0.25
        ones = {"L": scale * G.new_ones(G.shape[0]), "R": scale * G.new_ones(G.shape[1])}
        whole = G.shape[1] > 1
        return {side: q.diag() if whole and len(q) <= self.largest else q for side, q in ones.items()}

    def _fitted(self, Q: State, G: Tensor, damping: Tensor | float) -> State:
        """Q after one step for the gradient G (J, I)."""
        found = {}
        for side, E in slopes(Q, G, damping).items():
            moved = E * Q[side] if E.ndim == 1 else E @ Q[side]
            found[side] = Q[side] - self.rate / _bound(E) * moved
        return _balanced(found)


def _balanced(Q: State) -> State:
    """The same P from Q_L and Q_R of one norm: steps leave |Q_L| / |Q_R| free, and it would drift to 0 or infinity."""
    ratio = (Q["L"].norm() / Q["R"].norm()).sqrt()
    return {"L": Q["L"] / ratio, "R": Q["R"] * ratio}


def slopes(Q: State, G: Tensor, damping: Tensor | float) -> State:
    """E_L and E_R for the gradient G (J, I); of a diagonal Q their diagonals."""
    A, sizes = right(Q["R"], left(Q["L"], G)), {side: q.square().sum() for side, q in Q.items()}
    inverses = {side: _inverse(q) for side, q in Q.items()}
    found = {}
    for side, other, B in (("L", "R", A), ("R", "L", A.t())):
        q, p, size, inverse_size = Q[side], inverses[side], sizes[other], inverses[other].square().sum()
        if q.ndim == 1:
            found[side] = B.square().sum(1) + damping * size * q * q - inverse_size * p * p
        else:
            found[side] = torch.triu(B @ B.t() + damping * size * q @ q.t() - inverse_size * p.t() @ p)
    return found


def left(q: Tensor, G: Tensor, transposed: bool = False) -> Tensor:
    """Q G, or Q^T G, with Q (J, J) or its diagonal (J,)."""
    return q[:, None] * G if q.ndim == 1 else (q.t() if transposed else q) @ G


def right(q: Tensor, G: Tensor, transposed: bool = False) -> Tensor:
    """G Q^T, or G Q, with Q (I, I) or its diagonal (I,)."""
    return G * q if q.ndim == 1 else G @ (q if transposed else q.t())


def _inverse(q: Tensor) -> Tensor:
    if q.ndim == 1:
        return q.reciprocal()
    identity = torch.eye(len(q), dtype=q.dtype, device=q.device)
    found: Tensor = torch.linalg.solve_triangular(q, identity, upper=True)
    return found


def _bound(E: Tensor) -> Tensor:
    """At least the largest singular value of E (N, N), or of the diagonal matrix of E (N,), and above 0."""
    size = E.abs()
    if E.ndim == 1:
        return size.amax().clamp(min=torch.finfo(E.dtype).tiny)
    return (size.sum(0).amax() * size.sum(1).amax()).sqrt().clamp(min=torch.finfo(E.dtype).tiny)
