"""Compatible critics against the closed forms of the LQR."""

import numpy as np
import pytest
import torch
from torch import nn

from rlopt.core.compatible.critic import Experience, monomials
from rlopt.core.compatible.episodic import Episodic
from rlopt.core.compatible.lstd import LSTD
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.tasks.lqr import LQR


def lqr(system: LQR, k: float, sigma: float, count: int, degrees: tuple[int, ...], seed: int = 0) -> Experience:
    """``count`` episodes of 200 steps of the scalar system, simulated here; discounted weights."""
    steps, rng = 200, np.random.default_rng(seed)
    s = np.sqrt(system.start_variance) * rng.standard_normal(count)
    states, actions = [s], []
    for _ in range(steps):
        actions.append(k * s + sigma * rng.standard_normal(count))
        s = system.A * s + system.B * actions[-1] + system.noise_std * rng.standard_normal(count)
        states.append(s)
    S, A = torch.from_numpy(np.array(states)), torch.from_numpy(np.array(actions))
    head = DiagonalGaussian(1, scale="sigma")
    network = Network(nn.Sequential(nn.Linear(1, 1, bias=False, dtype=torch.float64)), 1)
    time = torch.arange(steps).repeat_interleave(count)
    samples = Samples(
        inputs=S[:-1].reshape(-1, 1),
        actions=A.reshape(-1, 1),
        weight=system.gamma ** time.double(),
        time=time,
        episode=torch.arange(count).repeat(steps),
    )
    done = torch.zeros(steps, count, dtype=torch.bool)
    done[-1] = True
    tape = network.tape(torch.tensor([k, sigma], dtype=torch.float64), samples.inputs)
    phi = monomials(S.reshape(-1, 1), degrees)
    rewards = -(system.Q * S[:-1] ** 2 + system.R * A**2)
    return Experience(tape, head, samples, rewards, done, phi[:-count], phi[count:])


def errors(critic, degrees, count, seeds, noise=0.3, k=-0.3, sigma=0.5) -> np.ndarray:
    """Relative errors of w to the closed form's natural gradient."""
    system = LQR(start_variance=0.5, noise_std=noise)
    true = system.natural_gradient(k, sigma)
    found = [critic.estimate(lqr(system, k, sigma, count, degrees, s), system.gamma).natural.numpy() for s in seeds]
    return np.linalg.norm(found - true, axis=1) / np.linalg.norm(true)


@pytest.mark.parametrize("trace", [0.0, 0.5, 1.0])
def test_with_random_actions_alone_few_episodes_are_exact(trace):
    """Q is in the span of (1, s^2) and the scores, so that every residual can be 0."""
    assert errors(LSTD(None, trace, 0.0), (0, 2), 3, range(1), noise=0.0) < 1e-9
    assert errors(LSTD(None, trace, 0.0), (0, 1), 30, range(1), noise=0.0) > 0.05  # V is not in the span of (1, s)


def test_episodes_give_the_closed_form_up_to_the_horizon():
    """Of the order of gamma^200 = 3.5e-5."""
    assert errors(Episodic(None, 0.0), (0, 2), 20, range(1), noise=0.0) < 1e-4


@pytest.mark.parametrize("critic", [LSTD(None, 0.0, 0.0), LSTD(None, 0.9, 0.0), Episodic(None, 0.0)])
def test_the_error_falls_as_one_over_the_root_of_the_samples(critic):
    few, many = (np.sqrt((errors(critic, (0, 2), count, range(12)) ** 2).mean()) for count in (16, 256))
    assert 2 < few / many < 8  # 4 on average
    assert many < 0.08


def test_lqr_rewards_are_those_of_the_task():
    """The simulation above is the system whose closed forms it is compared with."""
    system = LQR(start_variance=0.5, noise_std=0.3)
    e = lqr(system, -0.3, 0.5, 400, (0, 2))
    returns = (e.rewards * system.gamma ** torch.arange(200)[:, None]).sum(0)
    assert abs(float(returns.mean()) - system.J(-0.3, 0.5)) < 4 * float(returns.std()) / 20
