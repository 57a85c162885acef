"""Gram solver: M + lambda I inverted through the inner products of its factors, for fewer factors than parameters.

    x = (g - S^T (S S^T + lambda I)^-1 S g) / lambda,     S_kb = sqrt(share_b) J_b^T u_kb   (K B, P),   M = S^T S

by the Woodbury identity. S is never formed: S g is one product with J, S^T y one with J^T, and the entries of S S^T
(K B, K B) are sums over layers of (a_b . a_b') (d_kb . d_k'b'), with several positions summed first.

| by      | solves with                              | systems of size K B                 |
|---|---|---|
| network | M                                        | one, S S^T the sum over all layers  |
| layer   | M's blocks M_l = S_l^T S_l, one a layer  | one a layer, K_l = S_l S_l^T        |

The second has the layer-wise tangent kernels of ISOPO (Abrahamsen 2025, arXiv 2512.23353): for g = S^T A it is x_l =
S_l^T (K_l + lambda I)^-1 A. It equals `block` by layer, whose systems have the sizes of the layers.

lambda must be above 0. The difference loses about log10(|M| / lambda) digits, which the reported residual shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure, at_least_one, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import ROOT, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Incompatible, Remedy, Work
from rlopt.core.solvers.dense import factorise_blocks
from rlopt.core.solvers.per_layer import join, layer_shape, products, rooted, rooted_by_sample, split, weighted
from rlopt.core.tapes.tape import Layer
from rlopt.parallel.collectives import world_size

_PASSES = 1000  # operations in whose time an entry of the products is made, by passes through memory


def operations(rows: float) -> float:
    """Of inner products of the signals and of activations, which have P numbers or fewer, and a Cholesky factor."""
    return rows**2 * (rows / 3 + _PASSES)


@dataclass(frozen=True)
class Gram(Solver):
    """x with (M + lambda I) x = g, exactly, by a system of size K B, the factors times the samples, in place of P.

    Options:
        largest: the largest K B allowed, 1 or above; the solver holds a matrix (K B, K B), by layer one for each.
        by: network solves with M; layer with the blocks of M on its diagonal, one for each layer.

    It needs lambda above 0, and one rank. Source: the Woodbury identity; by layer Abrahamsen 2025, ISOPO. Raises
    ValueError where an option is out of its range, Incompatible where K B is above ``largest`` or on several ranks,
    NumericalFailure where lambda is 0.
    """

    largest: int
    by: Literal["network", "layer"]

    needs: ClassVar[frozenset[str]] = frozenset({ROOT})

    def __post_init__(self) -> None:
        at_least_one("largest", self.largest)
        check(self.by in ("network", "layer"), "by", "network or layer", self.by)

    @property
    def requirements(self) -> Requirements:
        return Requirements(
            one_rank=True, needs_damping=True, reads_samples=True, check_samples=self._check_samples, work=self._work
        )

    def _work(self, curvature: Curvature) -> Work:
        K, B = rooted(curvature).factors().shape[:2]
        rows = float(K * B)
        if rows > self.largest:
            return Work()  # it is refused at once
        return Work(operations=operations(rows))

    def _check_samples(self, factors: int, samples: int) -> None:
        """Raise Incompatible where these are too many."""
        if (size := factors * samples) > self.largest:
            raise Incompatible(
                f"it would hold {size} x {size} products, of {factors} factors for each of {samples} samples, and at "
                f"most {self.largest} x {self.largest} are allowed",
                Remedy.FEWER_SAMPLES,
                largest=size,
            )

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if world_size() > 1:
            raise Incompatible(
                "the Gram matrix needs products between all samples, and those of other ranks are not at hand",
                Remedy.ONE_PROCESS,
            )
        if not damping > 0:
            raise NumericalFailure(f"the Gram matrix needs damping above 0; got {float(damping):.3g}")
        source = rooted_by_sample(curvature)
        U, tape, scale = source.factors(), source.tape, source.share.sqrt()
        K, B = U.shape[:2]
        self._check_samples(K, B)
        layers = tape.layers(U)
        grams = [products(layer) for layer in layers]
        grams = grams if self.by == "layer" else [torch.stack(grams).sum(0)]
        grams = [(gram.view(K, B, K, B) * scale[:, None, None] * scale).view(K * B, K * B) for gram in grams]
        factors, used = factorise_blocks(grams, damping)
        if self.by == "layer":
            return _by_layer([weighted(layer, scale) for layer in layers], factors, used), state

        def solve(g: Tensor) -> Solution:
            Sg = torch.einsum("kbo,bo->kb", U, tape.jvp(g)) * scale
            y = torch.cholesky_solve(Sg.reshape(-1, 1), factors[0]).view(K, B)
            StY = tape.vjp(torch.einsum("kb,kbo->bo", y * scale, U))
            x = (g - StY) / used
            return Solution.measured(g, x, partial(curvature.product, x), used)

        return solve, state


def _by_layer(layers: list[Layer], factors: list[Tensor], used: Tensor | float) -> Solve:
    """g -> x, from the rows S_l that the ``layers``' records hold, weighted, and factors of K_l + lambda I."""
    shapes = [layer_shape(layer) for layer in layers]

    def times(layer: Layer, G: Tensor) -> Tensor:
        """S_l vec(G) (K, B) of a part of theta G (J, C)."""
        return torch.einsum("kblj,blj->kb", layer.signals, layer.inputs @ G.t())

    def back(layer: Layer, y: Tensor) -> Tensor:
        """S_l^T y as (J, C), of y (K, B)."""
        return torch.einsum("kblj,bli->ji", layer.signals * y[:, :, None, None], layer.inputs)

    def solve(g: Tensor) -> Solution:
        X = []
        for layer, factor, G in zip(layers, factors, split(g, shapes), strict=True):
            Sg = times(layer, G)
            y = torch.cholesky_solve(Sg.reshape(-1, 1), factor).view(Sg.shape)
            X.append((G - back(layer, y)) / used)

        def product() -> Tensor:
            return join([back(layer, times(layer, part)) for layer, part in zip(layers, X, strict=True)], shapes)

        return Solution.measured(g, join(X, shapes), product, used)

    return solve
