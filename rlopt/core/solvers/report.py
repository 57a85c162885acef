"""What a solver reports of a solve, measured on its own matrix M_s: |g - (M_s + lambda I) x| / |g| and x^T M_s x."""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.core.parts import Scalars, Solution


def measured(
    g: Tensor,
    x: Tensor,
    Mx: Tensor,
    damping: Tensor | float,
    iterations: Tensor | float = 0.0,
    scalars: Scalars | None = None,
) -> Solution:
    """The solution x (P,) for g (P,), with Mx = M_s x (P,) and the damping that was used."""
    norm = g.norm()
    return Solution(
        x=x,
        iterations=iterations,
        error=torch.where(norm > 0, (g - Mx - damping * x).norm() / norm, 0.0),
        form=torch.dot(x, Mx),
        damping=damping,
        scalars=scalars or {},
    )
