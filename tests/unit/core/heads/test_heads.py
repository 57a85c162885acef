"""Every head against torch.distributions, autograd and its own samples."""

import math

import pytest
import torch

from rlopt.core.heads import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    FullGaussian,
    Joint,
    MultiCategorical,
    Product,
    Value,
)
from tests.support.densities import distribution, kl, log_prob
from tests.support.oracles import HEADS, MORE_HEADS, close, draw, hessian, output_fisher, randn
from tests.support.points import B, gradient, outputs

ALL = {**HEADS, **MORE_HEADS, "unit_value": Value(), "one_action": Categorical(1), "one_number": DiagonalGaussian(1, scale="sigma"),
       "even_categories": MultiCategorical((3, 3)), "one_category": MultiCategorical((4,)), "no_choice": MultiCategorical((1, 1)),
       "some_choice": MultiCategorical((1, 4, 2)), "one_bit": Bernoulli(1),
       "joint_per_state": Joint(DiagonalGaussian(2, per_state=True), 1.0), "joint_bits": Joint(Bernoulli(2), 3.0),
       "joint_log_sigma": Joint(DiagonalGaussian(2), 0.4),
       "joint_product": Joint(MORE_HEADS["product_sigma"], 0.5), "one_beta": Beta(1), "one_full": FullGaussian(1),
       "joint_many": Joint(MultiCategorical((2, 3)), 0.5)}  # fmt: skip


@pytest.fixture(params=ALL)
def head(request):
    return ALL[request.param]


def test_log_prob_is_that_of_torch(head):
    z = outputs(head)
    actions = draw(head, z, 1)
    assert close(head.log_prob(z, actions), log_prob(head, z, actions), 1e-12)
    assert close(head.log_prob_and_score(z, actions)[0], log_prob(head, z, actions), 1e-12)


def test_score_is_the_gradient_of_log_prob(head):
    z = outputs(head)
    actions = draw(head, z, 1)
    expected = gradient(lambda z: log_prob(head, z, actions), z)
    assert close(head.log_prob_and_score(z, actions)[1], expected, 1e-12)


def test_entropy_and_its_gradient_are_those_of_torch(head):
    z = outputs(head)
    assert close(head.entropy(z), distribution(head, z).entropy(), 1e-12)
    assert close(head.entropy_gradient(z), gradient(lambda z: distribution(head, z).entropy(), z), 1e-12)


def test_kl_and_its_gradient_are_those_of_torch(head):
    old, new = outputs(head), outputs(head, seed=1)
    assert close(head.kl(old, new), kl(head, old, new), 1e-12)
    assert close(head.kl_gradient(old, new), gradient(lambda new: kl(head, old, new), new), 1e-12)


def test_kl_from_itself_is_zero(head):
    z = outputs(head)
    assert close(head.kl(z, z), torch.zeros(B, dtype=z.dtype), 1e-15)


def test_fisher_product_is_kls_hessian_and_its_roots_product(head):
    z, t = outputs(head), outputs(head, seed=2)
    kept, C = t.clone(), output_fisher(head, z)
    assert close(head.fisher_product(z)(t), torch.einsum("bij,bj->bi", C, t), 1e-12)
    assert torch.equal(t, kept)
    U = head.fisher_root(z)
    assert U.shape[1:] == z.shape
    assert close(torch.einsum("kbi,kbj->bij", U, U), C, 1e-12)


@pytest.mark.parametrize("name", ["categorical", "multi_categorical", "bernoulli", "log_sigma", "sigma", "value",
                                  "joint_categorical", "joint_sigma", "softplus", "beta", "full_gaussian",
                                  "product_beta"])  # fmt: skip
def test_fisher_is_the_mean_outer_product_of_scores(name):
    head = ALL[name]
    z = outputs(head)[:1]
    many = z.expand(200_000, -1)
    _, s = head.log_prob_and_score(many, draw(head, many, 3))
    C = output_fisher(head, z)[0]
    assert (s.T @ s / len(s) - C).abs().max() < 0.03 * C.abs().max()
    assert s.mean(0).abs().max() < 0.02 * C.abs().max()


def test_declared_sizes_are_those_of_the_distribution(head):
    z = outputs(head)
    noise = torch.full((B, head.noise_size), 0.5, dtype=z.dtype)
    actions = head.sample(z, noise)
    assert actions.shape == draw(head, z, 0).shape == head.mode(z).shape
    assert actions.dtype == draw(head, z, 0).dtype
    assert head.initial_constants().shape == (head.constants,)
    assert head.noise == ("uniform" if isinstance(head, Categorical | MultiCategorical | Bernoulli) else "normal")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_outputs_that_are_not_finite_are_outside_every_domain(head, bad):
    z = outputs(head)
    assert bool(head.in_domain(z))
    z[3, 0] = bad
    assert not head.in_domain(z)


def test_value_head_weighs_squared_error_by_its_variance():
    z, target = randn(B, 1), randn(B, 1, seed=1)
    for variance in (0.25, 1.0, 4.0):
        head = Value(variance)
        _, score = head.log_prob_and_score(z, target)
        assert close(score, (target - z) / variance, 1e-15)
        assert close(head.fisher_product(z)(target), target / variance, 1e-15)
        curvature = hessian(lambda z, head=head: -head.log_prob(z, target).sum(), z).reshape(B, B)
        assert close(curvature, torch.eye(B, dtype=z.dtype) / variance, 1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Categorical(0), "count must be"),
        (lambda: MultiCategorical(()), "counts must be one number of actions or more"),
        (lambda: MultiCategorical((2, 0)), "counts must be a whole number, 1 or above; got 0"),
        (lambda: Bernoulli(0), "count must be a whole number, 1 or above; got 0"),
        (lambda: DiagonalGaussian(0), "size must be"),
        (lambda: DiagonalGaussian(1, scale="variance"), "scale must be log_sigma or sigma; got 'variance'"),
        (lambda: DiagonalGaussian(1, initial_sigma=0.0), "initial_sigma must be a finite number above 0; got 0.0"),
        (lambda: DiagonalGaussian(1, initial_sigma=math.nan), "initial_sigma must be"),
        (lambda: DiagonalGaussian(1, scale="softplus"), "scale must be log_sigma or sigma; got 'softplus'"),
        (lambda: Beta(1, 0.6), "initial_sigma must be above 0 and below 0.577.*; got 0.6"),
        (lambda: FullGaussian(9), "size must be a whole number, 1 to 8; got 9"),
        (lambda: Product(()), "parts must be one head or more"),
        (lambda: Value(0.0), "variance must be"),
        (lambda: Joint(Categorical(2), -1.0), "variance must be a finite number above 0; got -1.0"),
    ],
)
def test_heads_refuse_what_is_no_distribution(make, says):
    with pytest.raises(ValueError, match=says):
        make()
