"""The solve of every layer's damped block, in its eigenbasis or by its factors' inverses.

V (J, I) is a layer's part of g, X that of x, I counts the bias's column. In the eigenbasis of the factors A and G,

    X = Qg [ (Qg^T V Qa) / E ] Qa^T,     x^T M x = sum D ((Qg^T V Qa) / E)^2,     E (J, I) eigenvalues D, damped

Rotations keep lengths, so the quadratic form needs none of its own; the residual does, and is worked out if asked for.

Factored damping needs no eigenvectors: the inverse of every damped factor, by Cholesky, gives

    X = (G + c_g I)^-1 V (A + c_a I)^-1,   c_a = pi sqrt(lambda),  c_g = sqrt(lambda) / pi,  pi^2 = mean Da / mean Dg

which is the same at a quarter of the price; the inverses hold for one lambda alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from rlopt.core.parts import Solution, Solve, State
from rlopt.core.solvers.dense import dampings
from rlopt.core.solvers.per_layer import LayerShape, LayerShapes, join, split


def in_eigenbasis(
    shapes: LayerShapes, basis: State, eigenvalues: list[Tensor], E: list[Tensor], damping: Tensor | float
) -> Solve:
    """g -> x, for the matrix with these eigenvalues (each (J, I)) in these bases, damped to E.

    Matrices are transposed, (I, J), and laid end to end, so that all but the rotations is done for all layers at once.
    """
    D, e = (torch.cat([matrix.t().flatten() for matrix in matrices]) for matrices in (eigenvalues, E))
    from_theta, to_theta = _orders(tuple(shapes.values()), e.device)
    start, middle, end = (torch.empty_like(e) for _ in range(3))
    sizes = [m.numel() for m in E]
    V, half, W = (
        [part.view(m.shape[::-1]) for part, m in zip(v.split(sizes), E, strict=True)] for v in (start, middle, end)
    )
    there, back = [], []  # matrix products (left, right, out)
    for name, v, h, w in zip(shapes, V, half, W, strict=True):
        Qa, Qg = basis[name]["Qa"], basis[name]["Qg"]
        there += [(Qa.t().contiguous(), v, h), (h, Qg, w)] if len(Qa) > 1 else [(v, Qg, w)]  # or Qa is 1 or -1
        back += [(Qa, v, h), (h, Qg.t().contiguous(), w)] if len(Qa) > 1 else [(v, Qg.t().contiguous(), w)]

    def rotate(products: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Qa^T V Qg or its inverse, of what lies in ``start``."""
        for left, right, out in products:
            torch.mm(left, right, out=out)
        return end

    def projected(v: Tensor) -> Tensor:
        torch.index_select(v, 0, from_theta, out=start)
        return rotate(there)

    def solve(g: Tensor) -> Solution:
        rotated = projected(g).clone()
        X = torch.div(rotated, e, out=start)
        quadratic = torch.dot(D * X, X)
        x = rotate(back).index_select(0, to_theta)

        def error() -> Tensor:
            r, gg = rotated - e * projected(x), torch.dot(g, g)  # of the x that is returned, rounding and all
            return torch.where(gg > 0, (torch.dot(r, r) / gg).sqrt(), 0.0)

        return Solution(x, 0.0, error, quadratic, damping)

    return solve


@cache
def _orders(shapes: tuple[LayerShape, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where in theta the entries of the transposed matrices lie, (P,), and where in these those of theta."""
    order = torch.arange(sum(shape.size for shape in shapes), device=device)
    from_theta = torch.cat([matrix.t().flatten() for matrix in split(order, list(shapes))])
    return from_theta, torch.empty_like(order).index_copy_(0, from_theta, order)


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


def by_inverses(shapes: LayerShapes, basis: State) -> Solve:
    """g -> x by the inverses of `invert`."""
    layers, kept = list(shapes.values()), list(basis["layers"].values())

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
