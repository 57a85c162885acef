"""The Beta head's samples, start and bounds; tests/unit/core/heads/test_heads.py has its formulas."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from rlopt.core.heads import Beta
from rlopt.policy.inference import numpy_sampler
from tests.support.oracles import close, randn


def raw(head: Beta, *shapes: float) -> torch.Tensor:
    """(1, O) outputs with these alpha and beta."""
    inverse = [shape - 1 + math.log(-math.expm1(1 - shape)) - head.shift for shape in shapes]  # of 1 + softplus
    return torch.tensor([inverse], dtype=torch.float64)


@pytest.mark.parametrize("shapes", [(1.0 + 1e-9, 1.0 + 1e-9), (1.02, 4.0), (30.0, 7.0), (1e4, 1e4)])
def test_samples_have_the_distribution_by_kolmogorov_and_smirnov(shapes):
    head, n = Beta(1), 100_000
    z = raw(head, *shapes).expand(n, -1)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((n, head.noise_size)))
    x = (2 * head.sample(z, noise)).sigmoid().numpy()[:, 0]
    assert stats.kstest(x, stats.beta(*shapes).cdf).pvalue > 0.01
    wrong = stats.beta(1.02 * shapes[0], shapes[1]).cdf  # which such a number of samples tells apart
    assert stats.kstest(x, wrong).pvalue < 1e-3


def test_numpy_draws_what_torch_draws():
    head = Beta(3)
    z, noise = 3 * randn(50, 6), randn(50, head.noise_size, seed=1)
    drawn = numpy_sampler(head)(z.numpy(), noise.numpy())
    np.testing.assert_allclose(drawn, head.sample(z, noise).numpy(), rtol=1e-12, atol=1e-12)


def test_a_variate_of_which_all_proposals_are_refused_is_finite():
    head = Beta(1)
    noise = torch.full((1, head.noise_size), -40.0)  # 1 + c x < 0
    assert close(head.sample(raw(head, 3.0, 2.0), noise), torch.tensor([[0.5 * math.log(8 / 5)]]).double(), 1e-7)


def test_the_mode_is_where_the_density_is_largest():
    head = Beta(1)
    z = raw(head, 3.0, 2.0)
    at = head.mode(z)
    assert close((2 * at).sigmoid(), torch.tensor([[2 / 3]], dtype=torch.float64), 1e-7)
    assert all(head.log_prob(z, at + step) < head.log_prob(z, at) for step in (-0.01, 0.01))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.57])
def test_the_first_policy_has_the_deviation_that_was_asked(sigma):
    head = Beta(1, sigma)
    shapes = (1 + torch.nn.functional.softplus(torch.tensor([head.shift], dtype=torch.float64))).item()
    assert 2 * stats.beta(shapes, shapes).std() == pytest.approx(sigma, rel=1e-9)


def test_actions_at_either_bound_have_finite_probabilities():
    head = Beta(1)
    z = torch.tensor([[40.0, -90.0], [-90.0, 40.0], [1e4, 1e4]])
    for actions in (head.mode(z), head.sample(z, torch.randn(3, head.noise_size, generator=torch.Generator()))):
        log_prob, score = head.log_prob_and_score(z, actions)
        assert actions.isfinite().all() and log_prob.isfinite().all() and score.isfinite().all()
    assert head.fisher_root(z).isfinite().all()
