"""Eigenvalues of M from products alone: Lanczos (1950) with full reorthogonalisation, and Rayleigh-Ritz.

V (P, m) is an orthonormal basis of span(r, M r, M^2 r, ...); the eigenvalues of V^T M V, the Ritz values, come close to
M's from within: first to the outermost, and to all distinct ones where the space closes (M V = V V^T M V).

r = M times a random vector lies in the range of M. So for a semidefinite M no Ritz value is below the smallest
eigenvalue above 0, none above the largest, and largest over smallest is at most the condition number on the range.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature

_CLOSED = 100  # a new direction below this many roundings of M's size is rounding


def ritz_values(curvature: Curvature, like: Tensor, products: int, seed: int) -> Tensor:
    """(m,) estimates of M's eigenvalues other than 0, least first, each of several equal ones once; m <= products.

    ``like`` (P,) gives dtype and device, ``seed`` the random vector. A value within P roundings of 0 is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    v = curvature.product(torch.randn(len(like), generator=generator, dtype=torch.float64).to(like))
    V, MV = like.new_zeros(len(like), min(products, len(like))), like.new_zeros(len(like), min(products, len(like)))
    rounding, size, m = torch.finfo(like.dtype).eps, 0.0, 0
    for m in range(V.shape[1] + 1):
        for _ in range(2):  # twice, because of rounding
            v = v - V[:, :m] @ (V[:, :m].t() @ v)
        length = v.norm()
        if m == V.shape[1] or not length > _CLOSED * rounding * size:
            break
        V[:, m] = v / length
        MV[:, m] = v = curvature.product(V[:, m].clone())
        size = max(size, float(v.norm()))
    H = V[:, :m].t() @ MV[:, :m]
    mu = torch.linalg.eigvalsh((H + H.t()) / 2)
    return mu[mu.abs() > len(like) * rounding * mu.abs().amax()] if m else mu
