"""Waste of an update: the share of its KL divergence that is not spent along the natural gradient (arXiv 2603.12596).

    delta = theta_after - theta_before,   n = F^-1 g,   |v|^2 = v^T F v           F and g at theta_before, on one batch
    cos = delta^T F n / (|delta| |n|)
    signal = cos |delta|,   waste = 1 - cos^2

delta is the sum of its part along n, of length |signal|, and of one that is F-orthogonal to n and so changes the
objective by nothing to first order. 1/2 |delta|^2 is the KL divergence of the update in nats, to second order, and adds
up: 1/2 signal^2 is spent on n, waste is the share of the rest. An update of many epochs has one delta.

The natural gradient has waste 0 and signal |delta|; a step that is F-orthogonal to n has waste 1 and signal 0; against
n the signal is negative. F is analytic, undamped and mostly singular; n is its pseudo-inverse's, by CG. Where CG stops
early n is the best direction of its Krylov space, and all of the above holds for that n: the residual is reported.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.parts import Scalars
from rlopt.core.solvers.cg import CG

TOLERANCE = 1e-4  # of CG's residual


def waste(fisher: Curvature, g: Tensor, delta: Tensor, products: int, tolerance: float = TOLERANCE) -> Scalars:
    """Signal, waste and residual of the update delta (P,), where g (P,) is the objective's gradient before it.

    ``products`` of F with vectors at most, besides two. Nothing where delta or g does not change the policy.
    """
    cg = CG(products, tolerance, None, "cold", 0.0)
    solve, _ = cg.prepare(cg.init(), fisher, 0.0)
    solution = solve(g)
    n = solution.x
    Fn = fisher.product(n)
    nn, along = torch.dot(n, Fn), torch.dot(delta, Fn)
    dd = torch.dot(delta, fisher.product(delta))
    if not (nn > 0 and dd > 0):
        return {}
    return {
        "step/signal": along / nn.sqrt(),
        "step/waste": (1 - along**2 / (nn * dd)).clamp(0, 1),
        "step/waste_residual": (g - Fn).norm() / g.norm(),
    }
