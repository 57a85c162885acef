"""The identity metric: every vector is its own product."""

import torch

from rlopt.core.metrics.identity import Identity
from tests.support.oracles import make_case, randn


def test_its_product_is_the_vector_to_the_bit():
    case = make_case("categorical")
    curvature, state = Identity().bind({}, case.tape, case.head, case.samples, None)
    v = randn(len(case.theta), seed=1)
    assert torch.equal(curvature.product(v), v) and curvature.size == len(v) and state == {}
