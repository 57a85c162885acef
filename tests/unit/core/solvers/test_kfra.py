"""KFRA against its recursion, written out in loops."""

import pytest
import torch
from torch import Tensor, nn

from tests.support.factors import (
    KFRA_NOW,
    assembled,
    bind,
    dense_factors,
    every_head,
    matrix,
    output_curvature,
)
from tests.support.oracles import Case, close, make_case, share


def dense_kfra(case: Case) -> Tensor:
    """Botev et al.'s recursion with explicit loops over units; f' by autograd, C by the head's own KL."""
    w, C, children = share(case.samples), output_curvature(case), list(case.module)
    C = torch.einsum("b,bij->ij", w, C)
    width = children[-1].weight.shape[0]
    G, found, h, slopes = C[:width, :width], [], case.samples.inputs, {}
    for i, child in enumerate(children):
        s = h.detach().requires_grad_()
        h = child(s)
        if not isinstance(child, nn.Linear):
            (slopes[i],) = torch.autograd.grad(h.sum(), s)
    for i in reversed(range(len(children))):
        child = children[i]
        if isinstance(child, nn.Linear):
            found.append(G)
            W = child.weight.detach()
            back = torch.zeros(W.shape[1], W.shape[1], dtype=torch.float64)
            for p in range(W.shape[1]):
                for q in range(W.shape[1]):
                    back[p, q] = sum(W[j, p] * G[j, k] * W[k, q] for j in range(len(W)) for k in range(len(W)))
            G = back
        else:
            f = slopes[i]
            G = G.clone()
            for p in range(len(G)):
                for q in range(len(G)):
                    G[p, q] *= sum(w[b] * f[b, p] * f[b, q] for b in range(len(w)))
    Gs = found[::-1] + ([C[width:, width:]] if case.head.constants else [])
    return assembled(case, [torch.kron(G, A) for (A, _), G in zip(dense_factors(case), Gs, strict=True)])


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
@every_head
def test_kfra_is_the_recursion_written_out_in_loops(head, activation):
    case = make_case(head, weights="masked", count=9, activation=activation)
    assert close(matrix(KFRA_NOW, bind(case)), dense_kfra(case), 1e-10)
