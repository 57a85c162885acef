"""Correlated action noise: its covariance exactly, its marginals, and streams that nothing else changes."""

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from rlopt.config.groups import NoiseOptions
from rlopt.core import heads
from rlopt.rollout.noise import WHITE, ActionNoise, amplitudes, filtered
from rlopt.rollout.seeding import Purpose, draw_noise, sequence
from tests.support.probes import make_trainer

GAUSSIAN = heads.DiagonalGaussian(2)
PINK = NoiseOptions(color=1.0, block=9)


def noise(numbers=(0, 1, 2), options=PINK, seed=3, head=GAUSSIAN) -> ActionNoise:
    return ActionNoise(seed, numbers, head, torch.float64, options)


@pytest.mark.parametrize("block", [2, 3, 16, 17])
@pytest.mark.parametrize("color", [0.0, 0.5, 1.0, 2.0])
def test_the_covariance_has_that_spectrum_and_variance_1(color, block):
    C = filtered(np.eye(block), amplitudes(color, block))
    covariance = C @ C.T
    assert abs(np.diag(covariance) - 1).max() < 1e-14
    assert abs(covariance - linalg.circulant(covariance[0])).max() < 1e-14
    power = np.fft.rfft(covariance[0]).real
    f = np.maximum(np.arange(len(power)), 1)
    assert power == pytest.approx(power[1] * f**-color, rel=1e-10)
    assert color or abs(C - np.eye(block)).max() < 1e-14


def test_color_0_draws_the_numbers_of_independent_noise():
    generators = [np.random.default_rng(sequence(3, Purpose.ACTION, e)) for e in (0, 1, 2)]
    for head in (GAUSSIAN, heads.Categorical(4), heads.GSDE(2, 3, hold=4)):
        ours = noise(options=WHITE, head=head)
        own = [np.random.default_rng(sequence(3, Purpose.ACTION, e)) for e in (0, 1, 2)]
        for steps in (5, 8):
            expected = draw_noise(own, head.noise, steps, head.noise_size, torch.float64, head.hold)
            assert torch.equal(ours.draw(steps), expected)
    assert ours.states()[0][1] is None and generators[0].bit_generator.state != ours.states()[0][0]


def test_a_block_is_filtered_white_noise_of_its_own_stream():
    drawn = noise().draw(20).numpy()
    for e in range(3):
        generator = np.random.default_rng(sequence(3, Purpose.ACTION, e))
        white = [generator.standard_normal((9, 2)) for _ in range(3)]
        C = filtered(np.eye(9), amplitudes(1.0, 9))
        expected = np.concatenate([C @ w for w in white])[:20]
        assert abs(drawn[:, e] - expected).max() < 1e-13


def test_noise_depends_neither_on_rollouts_nor_on_neighbours():
    whole, parts = noise().draw(40), noise()
    assert torch.equal(torch.cat([parts.draw(n) for n in (7, 2, 9, 22)]), whole)
    assert torch.equal(noise(numbers=(1, 2)).draw(40), whole[:, 1:])
    assert not torch.equal(noise(seed=4).draw(40), whole)


@pytest.mark.parametrize("before", [4, 9, 13, 18])
def test_a_saved_state_goes_on_to_the_bit(before):
    first = noise()
    first.draw(before)
    states, second = first.states(), noise(seed=99)
    for e, (state, used) in enumerate(states):
        second.restore(e, state, used)
    following = first.draw(30)
    assert torch.equal(second.draw(30), following)
    assert states[0][0] != first.states()[0][0]  # what was saved stays as it was


@pytest.mark.parametrize("used", [None, -1, 10, "4"])
def test_a_state_that_is_none_is_refused(used):
    found = noise()
    found.draw(3)
    with pytest.raises(ValueError, match="steps of a block of noise of 9 are used"):
        found.restore(0, found.states()[0][0], used)


def test_an_environment_that_begins_anew_has_other_noise():
    one, other = noise(), noise(seed=8)
    one.draw(4)
    one.restart(1, 8, 1)
    drawn, fresh = one.draw(9), other.draw(9)
    assert torch.equal(drawn[:, 1], fresh[:, 1]) and not torch.equal(drawn[:, 0], fresh[:, 0])


@pytest.mark.parametrize("head", [heads.DiagonalGaussian(1), heads.Beta(1, 0.4)], ids=["normal", "uniform"])
def test_each_step_alone_has_the_heads_noise(head):
    """Over 4,000 independent environments; the tests' levels are 1e-4, and 5 standard errors."""
    drawn = noise(numbers=range(4000), head=head).draw(9)[:, :, 0].numpy()
    distribution = stats.norm if head.noise == "normal" else stats.uniform
    for t in (0, 4, 8):
        assert stats.kstest(drawn[t], distribution.cdf).pvalue > 1e-4
    normal = drawn if head.noise == "normal" else stats.norm.ppf(drawn)
    C = filtered(np.eye(9), amplitudes(1.0, 9))
    for lag in (1, 3):
        expected = (C @ C.T)[0, lag]
        assert np.corrcoef(normal[2], normal[2 + lag])[0, 1] == pytest.approx(expected, abs=5 / 4000**0.5)
        assert lag != 1 or expected > 0.2


def test_uniform_noise_stays_below_1():
    ours = noise(head=heads.Categorical(3))
    ours._block, ours._used = 9, [0, 0, 0]
    ours._blocks = [np.full((9, 1), 40.0)] * 3
    drawn = ours.draw(9)
    assert drawn.max() < 1 and drawn.min() > 0.999


@pytest.mark.parametrize("env", ["pendulum", "cartpole"])
def test_log_probabilities_are_the_policys_of_each_action(env, tmp_path):
    """Not those of the action given the ones before."""
    run = make_trainer(f"env={env}", "algo=ppo", "noise.color=2", "env.num_envs=4", "batch_size=80", "policy.hidden=[8]",
                       "observations.normalise=false", "dtype=float64", f"run_dir={tmp_path}/run")  # fmt: skip
    with torch.no_grad():
        batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    head, expected = run.agent.head, ActionNoise(0, range(4), run.agent.head, torch.float64, NoiseOptions(2.0, 1024))
    z, drawn = batch.flat(batch.outputs), expected.draw(20).flatten(0, 1)
    assert torch.allclose(head.sample(z, drawn).double(), batch.flat(batch.actions).double(), atol=1e-12)
    samples = run.agent.actor_samples(run.state, batch)
    assert torch.equal(samples.old_log_prob, head.log_prob(z, batch.flat(batch.actions)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((-0.1, 9), "color must be between 0 and 2; got -0.1"),
        ((2.5, 9), "color must be between 0 and 2; got 2.5"),
        ((1.0, 1), "block must be 2 or above with a color above 0, at most 100,000; got 1"),
        ((1.0, 200_000), "block must be 2 or above"),
        ((0.0, 0), "block must be a whole number, 1 or above; got 0"),
    ],
)
def test_options_outside_their_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        NoiseOptions(*options)
