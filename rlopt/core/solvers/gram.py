"""Gram solver: M + lambda I inverted through the inner products of its factors, for fewer factors than parameters.

    x = (g - S^T (S S^T + lambda I)^-1 S g) / lambda,     S_kb = sqrt(share_b) J_b^T u_kb   (K B, P),   M = S^T S

by the Woodbury identity. S is never formed: S g is one product with J, S^T y one with J^T, and the entries of S S^T
(K B, K B) are sums over layers of (a_b . a_b') (d_kb . d_k'b'), with several positions summed first.

lambda must be above 0. The difference loses about log10(|M| / lambda) digits, which the reported residual shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one
from rlopt.core.curvature import Curvature
from rlopt.core.failure import NumericalFailure
from rlopt.core.parts import ROOT, Solution, State
from rlopt.core.solvers.dense import factorise
from rlopt.core.solvers.per_layer import products, root, rooted
from rlopt.core.solvers.report import measured
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size


@dataclass(frozen=True)
class Gram:
    largest: int  # K B, factors times samples, at most: S S^T has its square of entries

    needs: ClassVar[frozenset[str]] = frozenset({ROOT})
    needs_damping: ClassVar[bool] = True  # lambda = 0 is refused
    one_rank: ClassVar[bool] = True  # products between samples of different ranks are not at hand

    def __post_init__(self) -> None:
        at_least_one("largest", self.largest)

    def init(self) -> State:
        return {}

    def check_samples(self, factors: int, samples: int, where: str = "") -> None:
        """Raise UserError where these are too many; options start with ``where``."""
        if (size := factors * samples) > self.largest:
            raise UserError(
                f"{where}solver=gram would hold {size} x {size} products, of {factors} factors for each of {samples} "
                f"samples, and {where}solver.largest={self.largest}; type {where}solver.largest={size} or "
                f"{where}solver=cg, or take a smaller batch"
            )

    def prepare(
        self, state: State, curvature: Curvature, damping: Tensor | float
    ) -> tuple[Callable[[Tensor], Solution], State]:
        if world_size() > 1:
            raise UserError(
                "solver=gram needs products between samples, and those of other ranks are not at hand; choose solver=cg"
            )
        if not damping > 0:
            raise NumericalFailure(f"solver=gram needs damping above 0; got {float(damping):.3g}")
        source = rooted(curvature)
        U, tape, scale = root(source), source.tape, source.share.sqrt()
        K, B = U.shape[:2]
        self.check_samples(K, B)
        inner = torch.stack([products(layer) for layer in tape.layers(U)]).sum(0)
        inner = inner.view(K, B, K, B) * scale[:, None, None] * scale
        factor, used = factorise(inner.view(K * B, K * B), damping)

        def solve(g: Tensor) -> Solution:
            Sg = torch.einsum("kbo,bo->kb", U, tape.jvp(g)) * scale
            y = torch.cholesky_solve(Sg.reshape(-1, 1), factor).view(K, B)
            StY = tape.vjp(torch.einsum("kb,kbo->bo", y * scale, U))
            x = (g - StY) / used
            return measured(g, x, curvature.product(x), used)

        return solve, state
