"""The solve of every layer's block in the eigenbasis of its factors; V (J, I) is a layer's part of g, X that of x:

    X = Qg [ (Qg^T V Qa) / E ] Qa^T,     x^T M x = sum D ((Qg^T V Qa) / E)^2,     E (J, I) eigenvalues D, damped

Rotations keep lengths, so the quadratic form needs none of its own; the residual does, and is worked out if asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from rlopt.core.parts import Solution, State
from rlopt.core.solvers.per_layer import LayerShape, LayerShapes, split


def apply(
    places: LayerShapes, basis: State, eigenvalues: list[Tensor], E: list[Tensor], damping: Tensor | float
) -> Callable[[Tensor], Solution]:
    """g -> x, for the matrix with these eigenvalues (each (J, I)) in these bases, damped to E.

    Matrices are transposed, (I, J), and laid end to end, so that all but the rotations is done for all layers at once.
    """
    D, e = (torch.cat([matrix.t().flatten() for matrix in matrices]) for matrices in (eigenvalues, E))
    from_theta, to_theta = _orders(tuple(places.values()), e.device)
    start, middle, end = (torch.empty_like(e) for _ in range(3))
    V, half, W = ([v.view(m.shape[::-1]) for v, m in zip(v.split([m.numel() for m in E]), E, strict=True)]
                  for v in (start, middle, end))  # fmt: skip
    there, back = [], []  # matrix products (left, right, out)
    for name, v, h, w in zip(places, V, half, W, strict=True):
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
def _orders(places: tuple[LayerShape, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Where in theta the entries of the transposed matrices lie, (P,), and where in these those of theta."""
    order = torch.arange(sum(place.size for place in places), device=device)
    from_theta = torch.cat([matrix.t().flatten() for matrix in split(order, list(places))])
    return from_theta, torch.empty_like(order).index_copy_(0, from_theta, order)
