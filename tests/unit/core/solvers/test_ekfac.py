"""E-KFAC against the diagonal of every exact block in K-FAC's basis."""

import pytest
import torch
from torch import Tensor

from tests.support.factors import (
    EKFAC_NOW,
    assembled,
    bind,
    blocks_of,
    dense_factors,
    dense_kfac,
    every_head,
    matrix,
)
from tests.support.oracles import WEIGHTS, Case, close, fisher, make_case


def dense_ekfac(case: Case) -> Tensor:
    """Q diag(Q^T F Q) Q^T of every layer's exact block, Q the eigenbasis of the dense factors."""
    blocks = []
    for (A, G), F in zip(dense_factors(case), blocks_of(case, fisher(case)), strict=True):
        Q = torch.kron(torch.linalg.eigh(G)[1], torch.linalg.eigh(A)[1])
        blocks.append(Q @ (Q.T @ F @ Q).diagonal().diag() @ Q.T)
    return assembled(case, blocks)


@pytest.mark.parametrize("weights", WEIGHTS)
@every_head
def test_ekfac_is_each_blocks_diagonal_in_kfacs_basis_and_nearer(head, weights):
    case = make_case(head, weights=weights, count=60)
    found = matrix(EKFAC_NOW, bind(case))
    assert close(found, dense_ekfac(case), 1e-9)
    exact = assembled(case, blocks_of(case, fisher(case)))
    assert (found - exact).norm() <= (dense_kfac(case) - exact).norm() * (1 + 1e-12)
    assert (found - dense_kfac(case)).norm() > 1e-6 * exact.norm()  # or nothing was compared
