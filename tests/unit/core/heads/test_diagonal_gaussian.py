"""Gaussian heads: samples, the scale and its domain, and actions squashed by tanh."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import distributions

from rlopt.core.heads import DiagonalGaussian
from tests.support.densities import distribution
from tests.support.oracles import HEADS, close, draw, randn
from tests.support.points import B, gradient, outputs

GAUSSIANS = [name for name, head in HEADS.items() if isinstance(head, DiagonalGaussian)]


@pytest.mark.parametrize("name", [*GAUSSIANS, "value"])
def test_normal_noise_gives_samples_with_the_right_moments(name):
    head, n = HEADS[name], 4001
    z = outputs(head)[:1]
    expected = distribution(head, z).base_dist
    quantiles = torch.as_tensor(stats.norm.ppf((np.arange(n) + 0.5) / n))[:, None].expand(-1, head.noise_size)
    actions = head.sample(z.expand(n, -1), quantiles)
    assert close(actions.mean(0), expected.mean[0], 1e-12)
    assert close(actions.std(0), expected.stddev[0], 2e-3)
    assert torch.equal(head.sample(z, torch.zeros(1, head.noise_size, dtype=z.dtype)), head.mode(z))


@pytest.mark.parametrize("name", GAUSSIANS)
def test_fishers_scale_block_is_exact_and_apart_from_the_mean(name):
    head = HEADS[name]
    z = outputs(head)
    n, scale = head.size, z[:, head.size :]
    expected = 2 / scale**2 if head.scale == "sigma" else torch.full_like(scale, 2)
    apply = head.fisher_product(z)
    columns = torch.stack([apply(e.expand_as(z)) for e in torch.eye(2 * n, dtype=z.dtype)], 2)  # (B, O, O)
    assert close(columns[:, n:, n:], torch.diag_embed(expected), 1e-15)
    if head.scale == "log_sigma":
        assert (columns[:, n:, n:].diagonal(dim1=1, dim2=2) == 2).all()
    assert (columns[:, :n, n:] == 0).all() and (columns[:, n:, :n] == 0).all()


@pytest.mark.parametrize("name", ["sigma", "sigma_per_state"])
@pytest.mark.parametrize("bad", [0.0, -0.3, math.nan, math.inf])
def test_sigma_that_is_no_scale_is_outside_the_domain(name, bad):
    head = HEADS[name]
    z = outputs(head)
    assert head.bounded and bool(head.in_domain(z))
    z[4, -1] = bad
    assert not head.in_domain(z)


def test_log_sigma_may_take_any_finite_value():
    head = DiagonalGaussian(2)
    z = randn(B, 4)
    z[:, 2:] = -50
    assert not head.bounded and bool(head.in_domain(z))


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_both_scales_start_from_initial_sigma(scale):
    head = DiagonalGaussian(3, scale=scale, initial_sigma=0.25)
    z = torch.cat([torch.zeros(3), head.initial_constants()])[None].double()
    assert close(distribution(head, z).base_dist.stddev, torch.full((1, 3), 0.25, dtype=z.dtype), 1e-7)
    assert DiagonalGaussian(3, scale=scale, per_state=True).initial_constants().shape == (0,)


def squashed(scale: str, size: int = 2) -> DiagonalGaussian:
    return DiagonalGaussian(size, scale=scale, squash=True, per_state=True)


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashed_entropy_is_that_of_monte_carlo(scale):
    head, n = squashed(scale), 200_000
    z = outputs(head)[:1]
    normal = distribution(head, z).base_dist
    tanh = distributions.TransformedDistribution(normal, distributions.TanhTransform(cache_size=1))
    surprise = -tanh.log_prob(torch.tanh(draw(head, z.expand(n, -1), 5))).sum(1)
    error = surprise.std() / n**0.5
    assert (head.entropy(z) - surprise.mean()).abs() < 4 * error
    assert error < 0.01


def expectation(f, mean: float, sigma: float) -> float:
    """E f(a) of a normal a, by adaptive quadrature."""
    low, high = mean - 12 * sigma, mean + 12 * sigma
    breaks = [x for x in (-12.0, -3.0, 0.0, 3.0, 12.0, mean) if low < x < high]
    integrand = lambda a: f(a) * stats.norm.pdf(a, mean, sigma)  # noqa: E731
    return integrate.quad(integrand, low, high, limit=2000, epsabs=1e-12, epsrel=1e-12, points=breaks)[0]


@pytest.mark.parametrize("mean", [0.0, 0.7, -5.0, 30.0])
@pytest.mark.parametrize("sigma", [0.1, 0.5, 0.99, 1.0, 1.7, 4.0, 10.0, 50.0])
def test_squashed_entropy_and_derivatives_are_integrals(sigma, mean):
    z = torch.tensor([[mean, math.log(sigma)]], dtype=torch.float64)
    head = squashed("log_sigma", 1)
    bend = lambda a: -2 / math.cosh(min(abs(a), 300)) ** 2  # noqa: E731
    lost = expectation(lambda a: -2 * (np.logaddexp(a, -a) - math.log(2)), mean, sigma)
    fall = expectation(lambda a: -2 * math.tanh(a), mean, sigma)
    fallen = expectation(lambda a: -2 * math.tanh(a) * (a - mean), mean, sigma)
    assert head.entropy(z).item() == pytest.approx(stats.norm.entropy(mean, sigma) + lost, abs=1e-6, rel=0)
    assert head.entropy_gradient(z)[0].tolist() == pytest.approx([fall, 1 + fallen], abs=1e-6, rel=0)
    by_mean, mixed = expectation(bend, mean, sigma), expectation(lambda a: bend(a) * (a - mean), mean, sigma)
    by_scale = expectation(lambda a: bend(a) * (a - mean) ** 2, mean, sigma) + fallen
    expected = [by_mean, mixed, mixed, by_scale]
    assert head.entropy_hessian(z)[0].flatten().tolist() == pytest.approx(expected, abs=1e-6, rel=0)


def test_squashed_entropy_of_extreme_scales_is_the_limit():
    head = squashed("log_sigma", 1)
    z = torch.tensor([[0.5, -60.0], [0.5, 60.0]])
    narrow, wide = (head.entropy(z) - z[:, 1] - 0.5 * math.log(2 * math.pi * math.e)).tolist()
    assert narrow == pytest.approx(-2 * math.log(math.cosh(0.5)), abs=1e-5)
    assert wide == pytest.approx(-2 * math.exp(60) * math.sqrt(2 / math.pi), rel=1e-6)  # -2 E|a|
    assert head.entropy_gradient(z)[0].tolist() == pytest.approx([-2 * math.tanh(0.5), 1.0], abs=1e-6)
    assert head.entropy_hessian(z).isfinite().all()


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashed_entropy_gradient_is_autograds_and_differences(scale):
    head = squashed(scale)
    z = outputs(head)
    g = head.entropy_gradient(z)
    assert close(g, gradient(head.entropy, z), 1e-8)
    h = 1e-5
    for i in range(z.shape[1]):
        step = h * torch.eye(z.shape[1], dtype=z.dtype)[i]
        assert close(g[:, i], (head.entropy(z + step) - head.entropy(z - step)) / (2 * h), 1e-8)


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashed_ratio_and_score_are_those_before_squashing(scale):
    """log p(tanh a) = log N(a) - sum log(1 - tanh^2 a), and the second term does not depend on z."""
    head = squashed(scale)
    old, new = outputs(head), outputs(head, seed=1)
    actions = draw(head, old, 2)

    def density(z):
        tanh = distributions.TransformedDistribution(distribution(head, z).base_dist, distributions.TanhTransform())
        return tanh.log_prob(actions.tanh()).sum(1)

    assert close(head.log_prob(new, actions) - head.log_prob(old, actions), density(new) - density(old), 1e-9)
    assert close(head.log_prob_and_score(new, actions)[1], gradient(density, new), 1e-9)


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashing_changes_only_the_entropy(scale):
    plain, tanh = DiagonalGaussian(2, scale=scale, per_state=True), squashed(scale)
    old, new = outputs(plain), outputs(plain, seed=1)
    actions = draw(plain, old, 2)
    assert torch.equal(plain.log_prob(old, actions), tanh.log_prob(old, actions))
    assert torch.equal(plain.log_prob_and_score(old, actions)[1], tanh.log_prob_and_score(old, actions)[1])
    assert torch.equal(plain.kl(old, new), tanh.kl(old, new))
    assert torch.equal(plain.fisher_root(old), tanh.fisher_root(old))
    assert (tanh.entropy(old) < plain.entropy(old)).all()
