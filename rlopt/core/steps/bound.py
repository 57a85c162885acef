"""The length at which a quadratic model of distance reaches a radius.

    alpha = min(alpha_max, sqrt(2 radius / max(q, (q + lambda x^T x) / 4))),   q = x^T M x

The second term keeps a step finite where the undamped q is nearly 0 and only lambda holds x; where both terms are
<= 0 the model says nothing, and alpha_max is used.
"""

from __future__ import annotations

import torch
from torch import Tensor


def length(quadratic: Tensor, x: Tensor, damping: Tensor | float, radius: float, largest: float) -> Tensor:
    """alpha (), from q (), x (P,), lambda; radius in the units of 1/2 q."""
    damped = (quadratic + damping * torch.dot(x, x)) / 4
    denominator = torch.maximum(quadratic, damped)
    alpha = torch.where(denominator > 0, (2 * radius / denominator).sqrt(), torch.inf)
    return alpha.clamp(max=largest)
