"""Low-rank solver: M_s = sum_i mu_i q_i q_i^T + delta (I - sum_i q_i q_i^T), r leading eigenpairs of M and a remainder.

    x = sum_i q_i (q_i^T g) / (mu_i + lambda) + (g - sum_i q_i (q_i^T g)) / (delta + lambda)

which is Woodbury's identity for orthonormal q_i. The pairs are the r leading Ritz pairs of ``products`` steps of
Lanczos (1950) with full reorthogonalisation: V (P, m) is an orthonormal basis of span(g, M g, M^2 g, ...), the pairs
those of V^T M V. Where that space closes it goes on with a random vector, so that r = P gives all of M.

    remainder: none   delta = 0
    remainder: mean   delta = (tr M - sum_i mu_i) / (P - r), the mean of the eigenvalues left out; tr M exactly

Directions without curvature are held by lambda alone: at lambda = 0 it is raised as `dense` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check, non_negative
from rlopt.core.curvature import Curvature
from rlopt.core.parts import PRODUCT, ROOT, SEMIDEFINITE, Solution, State
from rlopt.core.solvers.dense import damping_for, eigenvalues
from rlopt.core.solvers.per_layer import gradients, layer_means
from rlopt.core.solvers.report import measured
from rlopt.core.tape import Layer

_CLOSED = 100  # a new direction below this many roundings of M's size is rounding


@dataclass(frozen=True)
class LowRank:
    rank: int  # r, eigenpairs kept; P at most
    products: int  # m >= r, of M with a vector
    start: Literal["gradient", "random"]
    seed: int  # of random vectors
    remainder: Literal["none", "mean"]

    def __post_init__(self) -> None:
        at_least_one("rank", self.rank)
        check(self.products >= self.rank, "products", f"a whole number, rank={self.rank} or above", self.products)
        check(self.start in ("gradient", "random"), "start", "gradient or random", self.start)
        non_negative("seed", self.seed)
        check(self.remainder in ("none", "mean"), "remainder", "none or mean", self.remainder)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({PRODUCT, SEMIDEFINITE} | ({ROOT} if self.remainder == "mean" else set()))

    def init(self) -> State:
        return {}

    def prepare(
        self, state: State, curvature: Curvature, damping: Tensor | float
    ) -> tuple[Callable[[Tensor], Solution], State]:
        kept: list[tuple[Tensor, Tensor, Tensor]] = []  # from the first g, which Lanczos may start from

        def solve(g: Tensor) -> Solution:
            if not kept:
                kept.append(self._pairs(curvature, g))
            mu, Q, delta = kept[0]
            whole = len(mu) == len(g)
            used = damping_for(mu if whole else torch.cat([mu, delta[None]]), damping)
            c = Q.t() @ g
            x, Mx = Q @ (c / (mu + used)), Q @ (c * mu / (mu + used))
            if not whole:
                rest = (g - Q @ c) / (delta + used)
                x, Mx = x + rest, Mx + delta * rest
            products = min(self.products, len(g))
            return measured(g, x, Mx, used, float(products), {"solver/remainder": delta})

        return solve, state

    def _pairs(self, curvature: Curvature, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The leading eigenvalues (r,), least first, their vectors (P, r), and delta ()."""
        V, MV = self._lanczos(curvature, g)
        H = V.t() @ MV
        mu, Y = eigenvalues((H + H.t()) / 2)
        mu, Q = mu[-self.rank :].clamp(min=0), V @ Y[:, -self.rank :]
        left = len(g) - len(mu)
        if self.remainder == "none" or left == 0:
            return mu, Q, g.new_zeros(())
        parts, _ = layer_means(curvature, _trace)
        return mu, Q, ((torch.stack(parts).sum() - mu.sum()) / left).clamp(min=0)

    def _lanczos(self, curvature: Curvature, g: Tensor) -> tuple[Tensor, Tensor]:
        """An orthonormal basis V of a Krylov space, and M V, both (P, m)."""
        generator = torch.Generator().manual_seed(self.seed)
        V = g.new_zeros(len(g), min(self.products, len(g)))
        MV = torch.zeros_like(V)
        v, size = g if self.start == "gradient" else torch.zeros_like(g), 0.0
        for i in range(V.shape[1]):
            before = V[:, :i]
            v, length = _orthogonal(v, before)
            while length <= _CLOSED * torch.finfo(g.dtype).eps * size:
                v = torch.randn(len(g), generator=generator, dtype=torch.float64).to(g) * (size or 1.0)
                v, length = _orthogonal(v, before)
            V[:, i] = v / length
            MV[:, i] = v = curvature.product(V[:, i].clone())
            size = max(size, float(v.norm()))
        return V, MV


def _orthogonal(v: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """v less its part in the span of the basis's columns, taken off twice because of rounding, and its length."""
    for _ in range(2):
        v = v - basis @ (basis.t() @ v)
    return v, v.norm()


def _trace(layer: Layer, root: Tensor) -> Tensor:
    """sum_b share_b sum_k |J_b^T u_kb|^2, the layer's part of tr M."""
    a, d = layer.inputs, layer.signals
    if d.shape[2] > 1:
        return gradients(layer).square().sum()
    return torch.dot(d.square().sum((0, 2, 3)), a.square().sum((1, 2)))
