"""Eigenvalues of M from products alone: Lanczos (1950) with full reorthogonalisation, and Rayleigh-Ritz.

V (P, m) is an orthonormal basis of span(r, M r, M^2 r, ...); the eigenvalues of V^T M V, the Ritz values, come close to
M's from within: first to the outermost, and to all distinct ones where the space closes (M V = V V^T M V).

r = M times a random vector lies in the range of M. So for a semidefinite M no Ritz value is below the smallest
eigenvalue above 0, none above the largest, and largest over smallest is at most the condition number on the range.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Curvature
from rlopt.parallel.collectives import all_ranks

_CLOSED = 100  # a new direction below this many roundings of M's size is rounding


def ritz_values(curvature: Curvature, like: Tensor, products: int, seed: int) -> Tensor:
    """(m,) estimates of M's eigenvalues other than 0, least first, each of several equal ones once; m <= products.

    ``like`` (P,) gives dtype and device, ``seed`` the random vector. A value within P roundings of 0 is 0.
    """
    _, H = ritz_space(curvature, like, products, seed)
    return nonzero(torch.linalg.eigvalsh(H), len(like))


def ritz_space(curvature: Curvature, like: Tensor, products: int, seed: int) -> tuple[Tensor, Tensor]:
    """V (P, m) and V^T M V (m, m), whose eigenvalues are the Ritz values; see `ritz_values`."""
    generator = torch.Generator().manual_seed(seed)
    v = curvature.product(torch.randn(len(like), generator=generator, dtype=torch.float64).to(like))
    V, MV = krylov(curvature, v, products)
    H = V.t() @ MV
    return V, (H + H.t()) / 2


def nonzero(mu: Tensor, size: int) -> Tensor:
    """Those of the eigenvalues mu (m,) of a matrix (P, P) that are more than ``size`` = P roundings of the largest."""
    return mu[mu.abs() > size * torch.finfo(mu.dtype).eps * mu.abs().amax()] if len(mu) else mu


def krylov(
    curvature: Curvature, v: Tensor, products: int, fresh: Callable[[], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """V and M V, both (P, m), from r = v (P,); m <= products.

    Where the space closes it ends, or continues with the vector that ``fresh`` returns. Raises NumericalFailure where M
    or r holds a number that is not finite.
    """
    V = v.new_zeros(len(v), min(products, len(v)))
    MV, size, closed = torch.zeros_like(V), 0.0, _CLOSED * torch.finfo(v.dtype).eps
    for m in range(V.shape[1]):
        v, length = _orthogonal(v, V[:, :m])
        while not all_ranks(length > closed * size):
            if length.isnan():
                raise NumericalFailure("the metric's matrix holds a number that is not finite")
            if fresh is None:
                return V[:, :m], MV[:, :m]
            v, length = _orthogonal(fresh() * (size or 1.0), V[:, :m])
        V[:, m] = v / length
        MV[:, m] = v = curvature.product(V[:, m].clone())
        size = max(size, float(v.norm()))
    return V, MV


def _orthogonal(v: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """v less its part in the span of the basis's columns, taken off twice because of rounding, and its length."""
    for _ in range(2):
        v = v - basis @ (basis.t() @ v)
    return v, v.norm()
