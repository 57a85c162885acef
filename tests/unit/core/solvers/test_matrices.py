"""Theta as matrices and vectors, and running means without bias."""

import pytest
import torch

from rlopt.core.solvers import matrices
from tests.support.gradients import LAYOUT, MATRICES, series
from tests.support.oracles import close


def test_parameters_are_matrices_and_vectors_and_come_back():
    (g,) = series(1)
    found = matrices.split(g, LAYOUT)
    assert {name: tuple(part.shape) for name, part in found.items() if part.ndim == 2} == MATRICES
    assert all(part.ndim == 1 for name, part in found.items() if name not in MATRICES)
    assert torch.equal(matrices.join(found), g)


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_a_mean_has_weights_that_sum_to_one(decay):
    gradients, mean = series(4), None
    for i, g in enumerate(gradients):
        mean = matrices.mean(mean, g, decay, i)
        weights = torch.tensor([decay ** (i - j) for j in range(i + 1)], dtype=torch.float64)
        assert close(mean, torch.stack(gradients[: i + 1]).T @ weights / weights.sum(), 1e-13)


def test_a_mean_keeps_no_part_of_the_gradient():
    (g,) = series(1)
    mean = matrices.mean(None, g, 0.9, 0)
    g.zero_()
    assert mean.abs().sum() > 0


def test_adam_is_torchs():
    theta = torch.zeros(LAYOUT.size, dtype=torch.float64)
    optimizer = torch.optim.Adam([theta], lr=1.0, betas=(0.8, 0.95), eps=1e-3)
    state = {}
    for i, g in enumerate(series(5)):
        before, theta.grad = theta.clone(), -g
        optimizer.step()
        state = matrices.adam(state, g, (0.8, 0.95), i)
        assert close(state["m"] / (state["v"].sqrt() + 1e-3), theta - before, 1e-12)
