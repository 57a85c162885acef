"""The product head's blocks, rows of actions and samples; tests/unit/core/heads/test_heads.py has its formulas."""

import numpy as np
import pytest
import torch

from rlopt.core.heads import Beta, Categorical, DiagonalGaussian, Product
from rlopt.policy.inference import numpy_sampler
from tests.support.oracles import MORE_HEADS, close, randn
from tests.support.points import outputs

PRODUCTS = [name for name, head in MORE_HEADS.items() if isinstance(head, Product)]


@pytest.mark.parametrize("name", PRODUCTS)
def test_the_root_has_the_parts_factors_and_no_more(name):
    head = MORE_HEADS[name]
    z = outputs(head)
    U = head.fisher_root(z)
    assert len(U) == sum(len(part.fisher_root(own)) for part, own in zip(head.parts, head.split(z), strict=True))
    touched = (U != 0).any(1).any(0) if len(U) else None
    assert touched.all()
    apart = torch.einsum("kbi,kbj->bij", U, U)
    index = [i for i, own in enumerate(head._index) for _ in own]
    order = torch.cat(head._index)
    part_of = torch.tensor([part for _, part in sorted(zip(order.tolist(), index, strict=True))])
    assert (apart[:, part_of[:, None] != part_of] == 0).all()


def test_whole_numbers_come_back_from_a_row_as_they_were():
    head = MORE_HEADS["product"]
    a = [randn(4, 2), torch.tensor([0, 2, 1, 2]), torch.tensor([[1, 2], [0, 0], [1, 1], [0, 2]]), randn(4, 2, seed=1)]
    rows = head.pack(a, torch.float64)
    assert rows.shape == (4, 7)
    for given, found in zip(a, head.unpack(rows), strict=True):
        assert given.dtype == found.dtype and torch.equal(given, found)


@pytest.mark.parametrize("name", PRODUCTS)
def test_numpy_draws_what_torch_draws(name):
    head = MORE_HEADS[name]
    z, noise = outputs(head), randn(9, head.noise_size, seed=3)
    np.testing.assert_allclose(
        numpy_sampler(head)(z.numpy(), noise.numpy()), head.sample(z, noise).numpy(), rtol=1e-12, atol=1e-12
    )


def test_normal_noise_reaches_every_part_in_its_own_kind():
    head, n = Product((Categorical(3), DiagonalGaussian(1))), 50_000
    z = torch.tensor([[0.5, -1.0, 0.2, 0.3, -0.4]], dtype=torch.float64).expand(n, -1)
    which, number = head.unpack(head.sample(z, randn(n, 2)))
    share = torch.bincount(which, minlength=3) / n
    assert close(share.double(), z[0, :3].softmax(0), 0.01)
    assert abs(float(number.mean()) - 0.3) < 0.01 and abs(float(number.std()) - np.exp(-0.4)) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([which.double(), number[:, 0]]))[0, 1])) < 0.02


def test_what_one_part_needs_the_product_declares():
    bounded, tanh = MORE_HEADS["product_sigma"], Product((Categorical(2), Beta(1)))
    assert bounded.bounded and not tanh.bounded
    assert tanh.squash and not bounded.squash
    z = outputs(bounded)
    z[3, -1] = -0.1
    assert not bounded.in_domain(z)
