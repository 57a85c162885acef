"""E-KFAC: K-FAC's eigenbases with the eigenvalues replaced by second moments measured in them (George et al. 2018).

    S = mean_b sum_k (sum_l (Qg^T d_l) (Qa^T a_l)^T)^2, entry by entry (J, I);   M ~ Q diag(S) Q^T,  Q = Qa (x) Qg
    x = Q (Q^T g / (S + lambda))

S is the diagonal of Q^T M Q for the layer's block of M, so no other diagonal in this basis, K-FAC's included, is nearer
to the block in Frobenius norm. Its running mean starts anew with every new basis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import BATCH, ROOT, Solve, Solver, State
from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.solvers.kronecker.solve import in_eigenbasis
from rlopt.core.solvers.per_layer import squares
from rlopt.core.tapes.tape import Layer


@dataclass(frozen=True)
class EKFAC(Solver):
    """x with (M_s + lambda I) x = g, M_s diagonal in the eigenbasis of every layer's Kronecker factors.

    The state holds running means of the factors, the bases and the eigenvalues S.

    Options:
        decay: of the factors A and G; 0 or above and below 1. 0 takes this batch alone.
        scale_decay: of S while a basis lasts; 0 or above and below 1.
        refresh: updates from one eigendecomposition to the next; 1 or above.
        chunk: samples whose gradients (J, I) are held at a time, where a layer has positions; 1 or above.

    Source: George et al. 2018. Raises ValueError where an option is out of its range, NumericalFailure where
    statistics are not finite or no lambda of eight suffices.
    """

    decay: float
    scale_decay: float
    refresh: int
    chunk: int

    needs: ClassVar[frozenset[str]] = frozenset({BATCH, ROOT})

    def __post_init__(self) -> None:
        for name in ("decay", "scale_decay"):
            check(0 <= getattr(self, name) < 1, name, "0 or above, and below 1", getattr(self, name))
        at_least_one("refresh", self.refresh)
        at_least_one("chunk", self.chunk)

    def init(self) -> State:
        return {**kronecker.init(), "scale_weight": 0.0, "scales": {}}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if state["age"] == 0:
            state = {**state, "scale_weight": 0.0, "scales": {}}
        shapes, values = kronecker.statistics(curvature, kronecker.factors)
        state = kronecker.decompose(kronecker.average(state, shapes, values, self.decay), self.refresh)
        basis = state["basis"]

        def measured(layer: Layer, root: Tensor) -> tuple[Tensor]:
            Q = basis[layer.weight_name]
            a, Qa = layer.activations, Q["Qa"]
            rows = a.flatten(0, 1)
            rotated = rows @ Qa if layer.bias_name is None else torch.addmm(Qa[-1], rows, Qa[:-1])
            rotated = rotated.view(*a.shape[:2], len(Qa))
            return (scales(replace(layer, activations=rotated, signals=layer.signals @ Q["Qg"]), self.chunk),)

        _, fresh = kronecker.statistics(curvature, measured)
        total = self.scale_decay * state["scale_weight"] + 1
        S = {
            name: torch.lerp(state["scales"][name], s, 1 / total) if state["scales"] else s
            for name, (s,) in zip(shapes, fresh, strict=True)
        }
        eigenvalues = list(S.values())
        E, used = kronecker.damped(eigenvalues, damping, lambda i, lam: eigenvalues[i] + lam)
        state = {**state, "scale_weight": total, "scales": S}
        return in_eigenbasis(shapes, basis, eigenvalues, E, used), state


def scales(layer: Layer, chunk: int) -> Tensor:
    """(J, I) sum_b sum_k (sum_l d_l a_l^T)^2, squared elementwise after the sum over the positions l.

    ``layer`` is rotated already, and its inputs include the bias's. ``chunk`` samples are taken at a time.
    """
    a, d = layer.activations, layer.signals
    if a.shape[1] == 1:
        return squares(layer).t() @ a[:, 0].square()
    total = a.new_zeros(d.shape[3], a.shape[2])
    for start in range(0, len(a), chunk):
        part = slice(start, start + chunk)
        for k in range(len(d)):
            total += (d[k, part].transpose(1, 2) @ a[part]).square_().sum(0)
    return total
