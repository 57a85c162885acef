"""Heads of categories and bits: how often each is drawn, the most probable, and probabilities near 0 and 1."""

import math

import pytest
import torch
from torch import distributions

from rlopt.core.heads import Bernoulli, Categorical, MultiCategorical
from tests.support.oracles import close, draw, output_fisher, seeded
from tests.support.points import B, outputs


def test_uniform_noise_gives_categories_the_right_frequencies():
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
def test_the_root_of_categories_has_rank_many_factors(counts):
    head = MultiCategorical(counts)
    z = outputs(head)
    rank = torch.linalg.matrix_rank(output_fisher(head, z), rtol=1e-10)
    assert (rank == len(head.fisher_root(z))).all()


def test_the_root_of_categories_holds_where_probabilities_vanish():
    head = MultiCategorical((3, 2))
    z = torch.tensor([[800.0, 0, -800, 0, 900], [0, 0, 800, 40, 0]], dtype=torch.float64)
    U = head.fisher_root(z)
    assert close(torch.einsum("kbi,kbj->bij", U, U), -head.log_prob_hessian(z, head.mode(z)), 1e-15)


def test_uniform_noise_gives_independent_categories():
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
