"""K-FAC: every layer's block of M is A (x) G (Martens and Grosse 2015; Grosse and Martens 2016 for Conv2d).

    A = mean_b a a^T,  G = mean_b sum_k d_k d_k^T,  inputs a with a one for the bias, signals d_k sent back by M's root
    exact:     (A (x) G + lambda I)^-1, by the eigenvalues of A and G
    factored:  (A + pi sqrt(lambda) I)^-1 (x) (G + sqrt(lambda) / pi I)^-1,  pi^2 = (tr A / dim A) / (tr G / dim G)
               (2015, section 6.3); lambda I where a factor is zero, which is the limit

The block is exact for one sample, for a layer whose signals are the same at every sample (a linear network with
constant output curvature), and for the head's constants. A and G are running means, see `kronecker.average`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import BATCH, ROOT, Solve, Solver, State
from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.solvers.kronecker.solve import by_inverses, in_eigenbasis, invert
from rlopt.core.solvers.per_layer import LayerShapes, rooted


@dataclass(frozen=True)
class KFAC(Solver):
    """x with (M_s + lambda I) x = g, M_s a Kronecker product A (x) G for every layer; the state holds A and G.

    Options:
        damping: exact adds lambda to A (x) G; factored shares it out between A and G.
        decay: of the running means of A and G; 0 or above and below 1. 0 takes this batch alone.
        refresh: measurements of A and G from one eigendecomposition to the next; 1 or above.
        measure: updates from one measurement to the next; 1 or above.

    Source: Martens and Grosse 2015; Grosse and Martens 2016. Raises ValueError where an option is out of its range,
    NumericalFailure where statistics are not finite or no lambda of eight suffices.
    """

    damping: Literal["exact", "factored"]
    decay: float
    refresh: int
    measure: int

    needs: ClassVar[frozenset[str]] = frozenset({BATCH, ROOT})

    def __post_init__(self) -> None:
        check_options(self.damping, self.decay, self.refresh)
        at_least_one("measure", self.measure)

    def init(self) -> State:
        return {**kronecker.init(), "calls": 0}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if fresh := state["calls"] == 0:
            shapes, values = kronecker.statistics(curvature, kronecker.factors)
            state = kronecker.average(state, shapes, values, self.decay)
        else:
            shapes = kronecker.layer_shapes(rooted(curvature).tape.layout, state["factors"])
        state = {**state, "calls": (state["calls"] + 1) % self.measure}
        if self.damping == "factored" and self.refresh == 1:
            if fresh or state["basis"]["asked"] != float(damping):
                state["basis"] = invert(state["factors"], damping)
            return by_inverses(shapes, state["basis"]), state
        if fresh:
            state = kronecker.decompose(state, self.refresh)
        return solve_with(shapes, state["basis"], damping, self.damping), state


def solve_with(shapes: LayerShapes, basis: State, damping: Tensor | float, kind: str) -> Solve:
    """g -> x with A (x) G in these eigenbases, damped exactly or by factors."""
    Das, Dgs = ([basis[layer][name] for layer in shapes] for name in ("Da", "Dg"))
    eigenvalues = [torch.outer(Dg, Da) for Da, Dg in zip(Das, Dgs, strict=True)]

    def exact(i: int, lam: Tensor | float) -> Tensor:
        return eigenvalues[i] + lam

    def factored(i: int, lam: Tensor | float) -> Tensor:
        Da, Dg, root = Das[i], Dgs[i], lam**0.5
        a, g = Da.mean(), Dg.mean()
        there = (a > 0) & (g > 0)
        pi = torch.where(there, a.sqrt() / g.sqrt(), 1.0)
        return torch.where(there, torch.outer(Dg + root / pi, Da + pi * root), lam)

    E, used = kronecker.damped(eigenvalues, damping, exact if kind == "exact" else factored)
    return in_eigenbasis(shapes, basis, eigenvalues, E, used)


def check_options(damping: str, decay: float, refresh: int) -> None:
    check(damping in ("exact", "factored"), "damping", "exact or factored", damping)
    check(0 <= decay < 1, "decay", "0 or above, and below 1", decay)
    at_least_one("refresh", refresh)
