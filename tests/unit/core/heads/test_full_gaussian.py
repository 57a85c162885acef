"""The full-covariance Gaussian's samples and start; tests/unit/core/heads/test_heads.py has its formulas."""

import torch

from rlopt.core.heads import DiagonalGaussian, FullGaussian
from tests.support.oracles import close, randn


def test_standard_noise_gives_samples_with_its_covariance():
    head, z = FullGaussian(3), randn(1, 9)
    noise = torch.cat([torch.eye(3), -torch.eye(3)]).double() * 3**0.5  # mean 0, covariance I
    actions = head.sample(z.expand(6, -1), noise)
    L = torch.zeros(3, 3, dtype=z.dtype)
    L.diagonal().copy_(z[0, 3:6].exp())
    L[1, 0], L[2, 0], L[2, 1] = z[0, 6], z[0, 7], z[0, 8]
    assert close(actions.mean(0), z[0, :3], 1e-14)
    assert close((actions - z[:, :3]).T @ (actions - z[:, :3]) / 6, L @ L.T, 1e-13)
    assert torch.equal(head.mode(z), z[:, :3])


def test_it_starts_as_the_diagonal_gaussian():
    full, diagonal = FullGaussian(3, 0.3), DiagonalGaussian(3, initial_sigma=0.3)
    mean, actions = randn(5, 3), randn(5, 3, seed=1)
    z = torch.cat([mean, full.initial_constants().double().expand(5, -1)], 1)
    other = torch.cat([mean, diagonal.initial_constants().double().expand(5, -1)], 1)
    assert close(full.log_prob(z, actions), diagonal.log_prob(other, actions), 1e-12)
