"""Low-rank solver: r leading eigenpairs (mu_i, q_i) of M, and a remainder in place of all others.

| remainder | M_s                                                      | with                                       |
|---|---|---|
| none      | sum_i mu_i q_i q_i^T                                     | delta = 0                                  |
| mean      | sum_i mu_i q_i q_i^T + delta (I - sum_i q_i q_i^T)       | delta = (tr M - sum_i mu_i) / (P - r)      |
| diagonal  | sum_i mu_i q_i q_i^T + diag(d)                           | d = diag M - sum_i mu_i q_i^2, 0 at least  |

tr M and diag M are exact; delta is the mean of the eigenvalues left out, and with d the solver has M's own diagonal. By
Woodbury's identity, for orthonormal q_i, and with D = diag(d) + lambda I and S = (sqrt(mu_1) q_1, ..., sqrt(mu_r) q_r),

    none, mean   x = sum_i q_i (q_i^T g) / (mu_i + lambda) + (g - sum_i q_i (q_i^T g)) / (delta + lambda)
    diagonal     x = D^-1 g - D^-1 S (I + S^T D^-1 S)^-1 S^T D^-1 g

The pairs are the r leading Ritz pairs of ``products`` steps of
Lanczos (1950) with full reorthogonalisation: V (P, m) is an orthonormal basis of span(g, M g, M^2 g, ...), the pairs
those of V^T M V. Where that space closes it goes on with a random vector, so that r = P gives all of M.
Directions without curvature are held by lambda alone: at lambda = 0 it is raised as `dense` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check, non_negative
from rlopt.core.curvature import Curvature
from rlopt.core.parts import PRODUCT, ROOT, SEMIDEFINITE, Requirements, Solution, Solve, Solver, State
from rlopt.core.solvers.dense import damping_for, eigenvalues
from rlopt.core.solvers.diagonal import exact_diagonal
from rlopt.core.solvers.per_layer import chunks, gradients, layer_means, rooted_by_sample
from rlopt.core.spectrum import krylov
from rlopt.core.tapes.tape import Layer


@dataclass(frozen=True)
class LowRank(Solver):
    """x with (M_s + lambda I) x = g, M_s the r leading eigenpairs of M and a remainder for all others.

    Options:
        rank: r, eigenpairs kept; 1 or above, P at most.
        products: m, of M with a vector, from which they are found; r or above.
        start: what Lanczos starts from: gradient or random.
        seed: of random vectors; 0 or above.
        remainder: none leaves the others out; mean takes one number for them, the mean of the eigenvalues left out;
            diagonal takes what the pairs leave of the diagonal of M.
        chunk: samples whose own gradients are held at a time, where trace or diagonal is formed and a layer has
            positions.

    Source: Lanczos 1950; the Woodbury identity. Raises ValueError where an option is out of its range,
    NumericalFailure where M holds a number that is not finite or no lambda of eight suffices.
    """

    rank: int
    products: int
    start: Literal["gradient", "random"]
    seed: int
    remainder: Literal["none", "mean", "diagonal"]
    chunk: int

    def __post_init__(self) -> None:
        at_least_one("rank", self.rank)
        check(self.products >= self.rank, "products", f"a whole number, rank={self.rank} or above", self.products)
        check(self.start in ("gradient", "random"), "start", "gradient or random", self.start)
        non_negative("seed", self.seed)
        known = ("none", "mean", "diagonal")
        check(self.remainder in known, "remainder", "none, mean or diagonal", self.remainder)
        at_least_one("chunk", self.chunk)

    @property
    def requirements(self) -> Requirements:
        return Requirements(reads_samples=self.remainder != "none")  # which trace and diagonal do

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({PRODUCT, SEMIDEFINITE} | (set() if self.remainder == "none" else {ROOT}))

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        kept: list[tuple[Tensor, Tensor, Tensor]] = []  # from the first g, which Lanczos may start from

        def solve(g: Tensor) -> Solution:
            if not kept:
                kept.append(self._pairs(curvature, g))
            mu, Q, delta = kept[0]
            if delta.ndim:
                return self._with_diagonal(mu, Q, delta, damping, g)
            whole = len(mu) == len(g)
            used = damping_for(mu if whole else torch.cat([mu, delta[None]]), damping)
            c = Q.t() @ g
            x, Mx = Q @ (c / (mu + used)), Q @ (c * mu / (mu + used))
            if not whole:
                rest = (g - Q @ c) / (delta + used)
                x, Mx = x + rest, Mx + delta * rest
            products = min(self.products, len(g))
            return Solution.measured(g, x, Mx, used, float(products), {"solver/remainder": delta})

        return solve, state

    def _with_diagonal(self, mu: Tensor, Q: Tensor, d: Tensor, damping: Tensor | float, g: Tensor) -> Solution:
        """x for M_s = Q diag(mu) Q^T + diag(d)."""
        used = damping_for(torch.cat([mu, d]), damping)
        S, D = Q * mu.sqrt(), d + used
        inner = torch.eye(len(mu)).to(S) + S.t() @ (S / D[:, None])
        y = g / D
        c = torch.cholesky_solve((S.t() @ y)[:, None], torch.linalg.cholesky(inner))
        x = y - (S @ c)[:, 0] / D
        products = float(min(self.products, len(g)))
        scalars = {"solver/remainder": d.mean()}
        return Solution.measured(g, x, Q @ (mu * (Q.t() @ x)) + d * x, used, products, scalars)

    def _pairs(self, curvature: Curvature, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The leading eigenvalues (r,), least first, their vectors (P, r), and delta (), or d (P,)."""
        generator = torch.Generator().manual_seed(self.seed)

        def random() -> Tensor:
            return torch.randn(len(g), generator=generator, dtype=torch.float64).to(g)

        start = g if self.start == "gradient" else torch.zeros_like(g)
        V, MV = krylov(curvature, start, self.products, random)
        H = V.t() @ MV
        mu, Y = eigenvalues((H + H.t()) / 2)
        mu, Q = mu[-self.rank :].clamp(min=0), V @ Y[:, -self.rank :]
        left = len(g) - len(mu)
        if self.remainder == "none" or left == 0:
            return mu, Q, g.new_zeros(())
        rooted_by_sample(curvature)
        if self.remainder == "diagonal":
            return mu, Q, (exact_diagonal(curvature, self.chunk) - Q.square() @ mu).clamp(min=0)
        parts, _ = layer_means(curvature, self._trace)
        return mu, Q, ((torch.stack(parts).sum() - mu.sum()) / left).clamp(min=0)

    def _trace(self, layer: Layer, root: Tensor) -> Tensor:
        """sum_b share_b sum_k |J_b^T u_kb|^2, the layer's part of tr M."""
        a, d = layer.inputs, layer.signals
        if d.shape[2] > 1:
            return torch.stack([gradients(part).square().sum() for part in chunks(layer, self.chunk)]).sum()
        return torch.dot(d.square().sum((0, 2, 3)), a.square().sum((1, 2)))
