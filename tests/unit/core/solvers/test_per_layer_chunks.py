"""Where a layer has positions each sample's own gradients are formed, of few samples at a time."""

import pytest
import torch

from rlopt.core.solvers import low_rank, per_layer
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.low_rank import LowRank
from tests.support.curvatures import bound, matrix, positions, solve
from tests.support.oracles import close, randn


@pytest.mark.parametrize(("chunk", "largest"), [(1, 1), (5, 5), (100, 17)])
def test_the_trace_of_a_low_rank_matrix_is_that_of_all_samples(chunk, largest, monkeypatch):
    sizes = []

    def gradients(layer):
        sizes.append(layer.signals.shape[1])
        return per_layer.gradients(layer)

    monkeypatch.setattr(low_rank, "gradients", gradients)
    case, U = positions(), randn(2, 17, 2, seed=4)
    found = solve(LowRank(3, 200, "random", 0, "mean", chunk), bound(case, U), randn(len(case.theta)), 0.1)
    mu = torch.linalg.eigvalsh(matrix(case, U))
    assert float(found.scalars["solver/remainder"]) == pytest.approx(float(mu[:-3].mean()), rel=1e-9)
    assert max(sizes) == largest


def test_the_scales_of_ekfac_are_those_of_all_samples():
    case, U = positions(), randn(2, 17, 2, seed=4)
    g = randn(len(case.theta))
    one, all_at_once = (solve(EKFAC(0.0, 0.0, 1, chunk), bound(case, U), g, 0.1).x for chunk in (1, 100))
    assert close(one, all_at_once, 1e-10)
