"""K-FAC against the Kronecker product of dense factors."""

import math

import pytest
import torch
from torch import Tensor

from tests.support.factors import (
    EXACT,
    FACTORED,
    LAMBDA,
    assembled,
    bind,
    dense_factors,
    dense_kfac,
    every_head,
    inverse,
    matrix,
)
from tests.support.oracles import WEIGHTS, Case, close, eye, make_case


def dense_factored_inverse(case: Case, lam: float) -> Tensor:
    blocks = []
    for A, G in dense_factors(case):
        a, g = A.trace() / len(A), G.trace() / len(G)
        pi = math.sqrt(a / g) if a > 0 and g > 0 else 1.0
        damped_A, damped_G = A + pi * math.sqrt(lam) * eye(len(A)), G + math.sqrt(lam) / pi * eye(len(G))
        blocks.append(torch.linalg.inv(torch.kron(damped_G, damped_A)))
    return assembled(case, blocks)


@pytest.mark.parametrize("weights", WEIGHTS)
@every_head
def test_kfac_is_the_kronecker_product_of_its_dense_factors(head, weights):
    case = make_case(head, weights=weights, count=9)
    assert close(matrix(EXACT, bind(case)), dense_kfac(case), 1e-10)
    assert close(inverse(FACTORED, bind(case)), dense_factored_inverse(case, LAMBDA), 1e-10)
