"""gSDE's samples, start and held noise; tests/unit/core/heads/test_heads.py has its formulas."""

import numpy as np
import pytest
import torch

from rlopt.core.heads import GSDE, Joint
from rlopt.policy.inference import numpy_sampler
from rlopt.rollout.seeding import draw_noise
from tests.support.densities import distribution
from tests.support.oracles import close, randn
from tests.support.points import outputs


def test_samples_have_the_variance_of_the_log_probability():
    head, n = GSDE(2, 3), 200_000
    z = outputs(head)[:1]
    actions = head.sample(z.expand(n, -1), randn(n, head.noise_size))
    expected = distribution(head, z).base_dist
    assert close(actions.mean(0), expected.mean[0], 0.01)
    assert close(actions.std(0) / expected.stddev[0], torch.ones(2, dtype=z.dtype), 0.01)
    drawn = numpy_sampler(head)(z.numpy(), randn(1, head.noise_size).numpy())
    assert close(torch.from_numpy(drawn), actions[:1] * 0 + head.sample(z, randn(1, head.noise_size)), 1e-12)


def test_one_draw_of_noise_is_one_function_of_the_state():
    head = GSDE(2, 3)
    z, noise = outputs(head)[:1], randn(1, head.noise_size)
    other = z.clone()
    other[:, 2:5] *= 2  # its features, in which the noise is linear but for the noise of its own
    own = 1e-3 * noise[:, -2:]
    assert torch.equal(head.sample(z, noise), head.sample(z.clone(), noise))
    assert close(head.sample(other, noise) - own - z[:, :2], 2 * (head.sample(z, noise) - own - z[:, :2]), 1e-12)


@pytest.mark.parametrize(("hold", "draws"), [(1, 7), (3, 3), (7, 1), (100, 1), (None, 1)])
def test_noise_is_held_for_so_many_steps(hold, draws):
    noise = draw_noise([np.random.default_rng(e) for e in range(2)], "normal", 7, 4, torch.float64, hold)
    assert noise.shape == (7, 2, 4)
    for e in range(2):
        assert len(noise[:, e].unique(dim=0)) == draws
    changed = (noise[1:] != noise[:-1]).all(2).all(1)
    assert [t + 1 for t in range(6) if changed[t]] == list(range(hold or 7, 7, hold or 7))


def test_features_start_as_projections_of_the_last_layer():
    weight = 0.01 * randn(1 + 2 + 3, 5)
    kept = weight[:3].clone()
    Joint(GSDE(2, 3), 1.0).prepare(weight)
    assert torch.equal(weight[:3], kept)  # of the value and the mean
    assert close(weight[3:].norm(dim=1), torch.ones(3, dtype=weight.dtype), 1e-12)
    with pytest.raises(ValueError, match="features must be at most 5, the width of the network's last hidden layer"):
        GSDE(2, 6).prepare(0.01 * randn(8, 5))
