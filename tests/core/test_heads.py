import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import distributions

from rlopt.core.heads import Bernoulli, Categorical, DiagonalGaussian, Joint, MultiCategorical, Value
from tests.oracles import HEADS, close, distribution, draw, hessian, kl, log_prob, output_fisher, points, randn, seeded

GAUSSIANS = [name for name, head in HEADS.items() if isinstance(head, DiagonalGaussian)]
ALL = {**HEADS, "unit_value": Value(), "one_action": Categorical(1), "one_number": DiagonalGaussian(1, scale="sigma"),
       "even_categories": MultiCategorical((3, 3)), "one_category": MultiCategorical((4,)), "no_choice": MultiCategorical((1, 1)),
       "some_choice": MultiCategorical((1, 4, 2)), "one_bit": Bernoulli(1),
       "joint_per_state": Joint(DiagonalGaussian(2, per_state=True), 1.0), "joint_bits": Joint(Bernoulli(2), 3.0),
       "joint_log_sigma": Joint(DiagonalGaussian(2), 0.4),
       "joint_many": Joint(MultiCategorical((2, 3)), 0.5)}  # fmt: skip
B = 9


def outputs(head, seed: int = 0) -> torch.Tensor:
    """(B, O) at random, with sigma > 0."""
    return points(head, B, seed)


def gradient(f, z: torch.Tensor) -> torch.Tensor:
    z = z.clone().requires_grad_()
    (g,) = torch.autograd.grad(f(z).sum() + 0 * z.sum(), z)  # f may not depend on z
    return g


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


def test_fisher_product_is_the_hessian_of_kl_and_the_product_of_its_root(head):
    z, t = outputs(head), outputs(head, seed=2)
    kept, C = t.clone(), output_fisher(head, z)
    assert close(head.fisher_product(z)(t), torch.einsum("bij,bj->bi", C, t), 1e-12)
    assert torch.equal(t, kept)
    U = head.fisher_root(z)
    assert U.shape[1:] == z.shape
    assert close(torch.einsum("kbi,kbj->bij", U, U), C, 1e-12)


@pytest.mark.parametrize("name", ["categorical", "multi_categorical", "bernoulli", "log_sigma", "sigma", "value",
                                  "joint_categorical", "joint_sigma"])  # fmt: skip
def test_fisher_is_the_mean_outer_product_of_scores(name):
    head = HEADS[name]
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
    assert head.noise == ("normal" if isinstance(head, DiagonalGaussian | Value | Joint) else "uniform")


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


def test_uniform_noise_gives_categories_with_the_right_frequencies():
    head, n = Categorical(3), 1000
    z = torch.tensor([[0.3, -1.0, 1.2]], dtype=torch.float64)
    noise = (torch.arange(n, dtype=torch.float64) + 0.5)[:, None] / n
    frequency = head.sample(z.expand(n, -1), noise).bincount(minlength=3) / n
    assert (frequency - z.softmax(1)[0]).abs().max() <= 1 / n


def test_categories_of_no_probability_are_never_drawn():
    head = Categorical(4)
    z = torch.tensor([[-1e4, 0.0, -1e4, 0.0]], dtype=torch.float64)
    noise = torch.cat([torch.zeros(1), torch.rand(2000, generator=seeded(0)), torch.tensor([1 - 2**-24])])
    drawn = head.sample(z.expand(len(noise), -1), noise[:, None].double())
    assert set(drawn.tolist()) == {1, 3}
    assert head.sample(z, torch.ones(1, 1, dtype=z.dtype)).item() <= 3


def test_mode_is_the_most_probable_action():
    head = Categorical(3)
    z = outputs(head)
    every = torch.stack([head.log_prob(z, torch.full((B,), a)) for a in range(3)], 1)
    assert torch.equal(head.mode(z), every.argmax(1))


@pytest.mark.parametrize("counts", [(2, 3), (3, 3), (1, 4, 2), (5,), (2, 2, 2, 2)])
def test_the_root_of_categories_has_as_many_factors_as_their_fisher_matrix_has_rank(counts):
    head = MultiCategorical(counts)
    z = outputs(head)
    rank = torch.linalg.matrix_rank(output_fisher(head, z), rtol=1e-10)
    assert (rank == len(head.fisher_root(z))).all()


def test_the_root_of_categories_holds_where_probabilities_vanish():
    head = MultiCategorical((3, 2))
    z = torch.tensor([[800.0, 0, -800, 0, 900], [0, 0, 800, 40, 0]], dtype=torch.float64)
    U = head.fisher_root(z)
    assert close(torch.einsum("kbi,kbj->bij", U, U), -head.log_prob_hessian(z, head.mode(z)), 1e-15)


def test_uniform_noise_gives_independent_categories_with_the_right_frequencies():
    head, n = MultiCategorical((2, 3)), 60
    z = torch.tensor([[0.4, -0.3, 0.3, -1.0, 1.2]], dtype=torch.float64)
    grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    drawn = head.sample(z.expand(n * n, -1), torch.cartesian_prod(grid, grid))
    joint = (3 * drawn[:, 0] + drawn[:, 1]).bincount(minlength=6).view(2, 3) / n**2
    expected = z[0, :2].softmax(0)[:, None] * z[0, 2:].softmax(0)
    assert (joint - expected).abs().max() <= 2 / n


def test_no_category_is_drawn_beyond_its_last():
    head = MultiCategorical((2, 4, 1))
    drawn = head.sample(outputs(head), torch.ones(B, 3, dtype=torch.float64))
    assert drawn.tolist() == [[1, 3, 0]] * B


def test_modes_are_the_most_probable_of_all_actions():
    head = MultiCategorical((2, 3))
    z = outputs(head)
    every = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    p = torch.stack([head.log_prob(z, a.expand(B, 2)) for a in every], 1)
    assert close(p.exp().sum(1), torch.ones(B, dtype=z.dtype), 1e-14)
    assert torch.equal(head.mode(z), every[p.argmax(1)])


def test_uniform_noise_gives_bits_with_the_right_frequencies():
    head, n = Bernoulli(2), 1000
    z = torch.tensor([[0.7, -1.5]], dtype=torch.float64)
    noise = (torch.arange(n, dtype=torch.float64) + 0.5)[:, None].expand(-1, 2) / n
    drawn = head.sample(z.expand(n, -1), noise)
    assert (drawn.mean(0) - z.sigmoid()[0]).abs().max() <= 1 / n
    assert set(drawn.unique().tolist()) == {0, 1}
    assert head.mode(z).tolist() == [[1, 0]]


def test_bits_are_those_of_torch():
    head = Bernoulli(3)
    old, new = outputs(head), outputs(head, seed=1)
    p, q = (distributions.Independent(distributions.Bernoulli(logits=z), 1) for z in (old, new))
    actions = draw(head, old, 2)
    assert close(head.log_prob(old, actions), p.log_prob(actions), 1e-12)
    assert close(head.entropy(old), p.entropy(), 1e-12)
    assert close(head.kl(old, new), distributions.kl_divergence(p, q), 1e-12)


def test_bits_that_are_nearly_certain_keep_their_digits():
    head = Bernoulli(1)
    z = torch.tensor([[40.0], [-40.0], [800.0]], dtype=torch.float64)
    likely = (z > 0).double()
    assert head.log_prob(z, 1 - likely).tolist() == pytest.approx([-40, -40, -800])
    assert head.log_prob(z, likely).tolist() == pytest.approx([-math.exp(-40), -math.exp(-40), 0], rel=1e-12)
    assert head.entropy(z).tolist() == pytest.approx([41 * math.exp(-40), 41 * math.exp(-40), 0], rel=1e-12)
    assert head.kl(z, z + 1).tolist() == pytest.approx([0, 0, 0], abs=1e-15)


@pytest.mark.parametrize("name", GAUSSIANS)
def test_scale_block_of_fisher_is_exact_and_has_no_part_with_the_mean(name):
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


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_outputs_that_are_not_finite_are_outside_every_domain(head, bad):
    z = outputs(head)
    assert bool(head.in_domain(z))
    z[3, 0] = bad
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


@pytest.mark.parametrize("mean", [0.0, 1.5])
@pytest.mark.parametrize(("sigma", "tolerance"), [(0.1, 1e-12), (1.0, 1e-9), (2.0, 5e-6)])
def test_squashed_entropy_is_the_integral_to_a_few_millionths(sigma, tolerance, mean):
    z = torch.tensor([[mean, sigma]], dtype=torch.float64)

    def log_slope(a):
        return 2 * (math.log(2) - a - np.logaddexp(0, -2 * a)) * stats.norm.pdf(a, mean, sigma)

    lost, _ = integrate.quad(log_slope, mean - 12 * sigma, mean + 12 * sigma, limit=400, epsabs=1e-12)
    expected = stats.norm.entropy(mean, sigma) + lost
    assert abs(squashed("sigma", 1).entropy(z).item() - expected) < tolerance


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashed_entropy_gradient_is_that_of_autograd_and_of_differences(scale):
    head = squashed(scale)
    z = outputs(head)
    g = head.entropy_gradient(z)
    assert close(g, gradient(head.entropy, z), 1e-8)
    h = 1e-5
    for i in range(z.shape[1]):
        step = h * torch.eye(z.shape[1], dtype=z.dtype)[i]
        assert close(g[:, i], (head.entropy(z + step) - head.entropy(z - step)) / (2 * h), 1e-8)


@pytest.mark.parametrize("scale", ["log_sigma", "sigma"])
def test_squashed_density_ratio_and_score_are_those_before_the_squashing(scale):
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
        (lambda: Value(0.0), "variance must be"),
        (lambda: Joint(Categorical(2), -1.0), "variance must be a finite number above 0; got -1.0"),
    ],
)
def test_heads_refuse_what_is_no_distribution(make, says):
    with pytest.raises(ValueError, match=says):
        make()
