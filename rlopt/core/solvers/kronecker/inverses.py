"""Factored damping without eigenvectors: the inverse of every damped factor, by Cholesky; V (J, C) a layer's part of g:

    X = (G + c_g I)^-1 V (A + c_a I)^-1,   c_a = pi sqrt(lambda),  c_g = sqrt(lambda) / pi,  pi^2 = mean Da / mean Dg

It is what `eigenbasis` finds with the same factors, at a quarter of the price; the inverses hold for one lambda alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlopt.core.parts import Solution, State
from rlopt.core.solvers.dense import dampings
from rlopt.core.solvers.per_layer import LayerShape, LayerShapes, join, split


def invert(factors: State, damping: Tensor | float) -> State:
    """The inverses for these factors A (C, C) and G (J, J) of every layer; lambda goes up as in `dense`."""
    As, Gs = ([factor[which] for factor in factors.values()] for which in ("A", "G"))
    a, g = torch.stack([matrix.diagonal().mean() for matrix in (*As, *Gs)]).chunk(2)
    there = (a > 0) & (g > 0)  # where a factor is zero the block is lambda I, which is the limit
    pi, kept = torch.where(there, (a / g).sqrt(), 1.0), there.to(a).repeat(2).unbind()
    sizes = a.new_tensor([len(A) * len(G) for A, G in zip(As, Gs, strict=True)])
    raw = [matrix * k for matrix, k in zip((*As, *Gs), kept, strict=True)]
    for used in dampings(damping, torch.dot(a * g, sizes) / sizes.sum(), "singular"):
        root = used**0.5
        shifts = torch.cat([pi * root, root / pi]).unbind()
        damped = [_shifted(matrix, shift) for matrix, shift in zip(raw, shifts, strict=True)]
        triangles, sound = _cholesky(damped)
        if sound:
            break
    found = [
        {"damped": matrix, "shift": shift, "inverse": torch.cholesky_inverse(L)}
        for matrix, shift, L in zip(damped, shifts, triangles, strict=True)
    ]
    pairs = zip(factors, found[: len(As)], found[len(As) :], strict=True)
    return {"asked": float(damping), "used": used, "layers": {name: {"A": A, "G": G} for name, A, G in pairs}}


def apply(places: LayerShapes, basis: State) -> Callable[[Tensor], Solution]:
    """g -> x by the inverses of `invert`."""
    layers, kept = list(places.values()), list(basis["layers"].values())

    def solve(g: Tensor) -> Solution:
        Xs = [k["G"]["inverse"] @ V @ k["A"]["inverse"] for V, k in zip(split(g, layers), kept, strict=True)]
        x = join(Xs, layers)

        def quadratic() -> Tensor:
            undamped = [tuple(_shifted(k[side]["damped"], -k[side]["shift"]) for side in "AG") for k in kept]
            return torch.dot(x, _times(x, layers, undamped))

        def error() -> Tensor:
            damped, norm = [(k["A"]["damped"], k["G"]["damped"]) for k in kept], g.norm()
            return torch.where(norm > 0, (g - _times(x, layers, damped)).norm() / norm, 0.0)

        return Solution(x, 0.0, error, quadratic, basis["used"])

    return solve


def _times(x: Tensor, layers: list[LayerShape], factors: Sequence[tuple[Tensor, ...]]) -> Tensor:
    """(P,) G X A of every layer, of the x given: rounding and all."""
    return join([G @ X @ A for X, (A, G) in zip(split(x, layers), factors, strict=True)], layers)


def _shifted(matrix: Tensor, shift: Tensor) -> Tensor:
    """matrix + shift I."""
    shifted = matrix.clone()
    shifted.diagonal().add_(shift)
    return shifted


def _cholesky(matrices: list[Tensor]) -> tuple[list[Tensor], bool]:
    """Their triangles, A's then G's, and whether every A (x) G stands above rounding."""
    triangles, infos = zip(*(torch.linalg.cholesky_ex(matrix) for matrix in matrices), strict=True)
    low, high = torch.stack([torch.stack(L.diagonal().aminmax()) for L in triangles], 1)
    low, high = (side[: len(side) // 2] * side[len(side) // 2 :] for side in (low, high))
    above = (low > 0) & (low > torch.finfo(low.dtype).eps ** 0.5 * high)
    return list(triangles), bool(above.all() & (torch.stack(infos) == 0).all())
