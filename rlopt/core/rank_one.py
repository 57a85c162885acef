"""Products with M = sum_b share_b r_b r_b^T, r_b = J_b^T u_b, for one factor u (B, O): c_b = r_b . v, M v = sum c r.

Over the layers, whose signals d (B, J) u sends back once and for all products:

    c = sum_l (a_l V_l^T + v_l) . d_l,     dW_l = (share c d_l)^T a_l,   db_l = d_l^T (share c)

which is six matrix products with three layers, where J v and then J^T u take ten. The signals take as much memory as
the activations.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rlopt.core.flat import Layout
from rlopt.core.tapes.tape import Layer, Tape


def rank_one(tape: Tape, layout: Layout, share: Tensor, u: Tensor) -> Callable[[Tensor], Tensor]:
    """v (P,) -> M v (P,) on this rank's samples, for a tape whose layers have one position each."""
    kept: list[tuple[Layer, Tensor, Tensor, Tensor]] = []  # layer, a (B, I), d (B, J), workspace (B, J)

    def product(v: Tensor) -> Tensor:
        if not kept:
            for layer in tape.layers(u[None]):
                d = layer.signals[0, :, 0]
                kept.append((layer, layer.activations[:, 0], d, torch.empty_like(d)))
        along, out = layout.views(v), torch.empty_like(v)
        parts = layout.views(out)
        c = torch.zeros_like(share)
        for layer, a, d, work in kept:
            if layer.weight is not None:
                c += torch.mm(a, along[layer.weight_name].t(), out=work).mul_(d).sum(1)
            if layer.bias_name:
                c.addmv_(d, along[layer.bias_name])
        c *= share
        for layer, a, d, work in kept:
            if layer.weight is not None:
                torch.mm(torch.mul(d, c[:, None], out=work).t(), a, out=parts[layer.weight_name])
            if layer.bias_name:
                torch.mv(d.t(), c, out=parts[layer.bias_name])
        return out

    return product
