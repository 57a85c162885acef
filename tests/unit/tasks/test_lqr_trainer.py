"""What the trainer estimates in the environment against the closed forms: state weighting, gradient, Fisher, KL.

The whole path is the trainer's: environments, collector, advantages, weights, objective, metric. The critic alone is
replaced, by a quadratic one that knows the value, since with uniform weighting an advantage near the horizon is as good
as what is bootstrapped there.
"""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from rlopt.config.schema import construct_part
from rlopt.core.learner import Learner
from rlopt.core.network import Network
from rlopt.tasks.lqr import LQR
from tests.support.building import resolve, trainer

HORIZON, RATE = 200, 1e-4
CASES = {  # system, K, sigma
    "example": ({}, [[-0.2]], [0.5]),
    "noisy": ({"A": 1.2, "B": 0.7, "Q": 2.0, "R": 0.5, "start_variance": 4.0, "noise_std": 0.3}, [[-0.7]], [0.4]),
    "matrix": (
        {"A": [[0.9, 0.3], [-0.2, 0.8]], "B": [[0.2, 0.0], [0.1, 1.0]], "Q": [[2.0, 0.5], [0.5, 1.0]], "R": 0.5,
         "start_variance": 1.0, "noise_std": 0.2},
        [[-0.5, -0.1], [0.1, -0.4]],
        [0.3, 0.6],
    ),
}  # fmt: skip


class Quadratic(nn.Module):
    """V(s) = w . (s s^T, 1)."""

    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size**2 + 1, dtype=torch.float64))

    def forward(self, s):
        features = torch.cat([(s[:, :, None] * s[:, None]).flatten(1), s.new_ones(len(s), 1)], 1)
        return (features @ self.weight)[:, None]


class Sampled:
    """Rollouts of one policy, always the same, and what the trainer makes of them."""

    def __init__(self, case: str, weighting: str, scale: str, episodes: int):
        values, K, sigma = CASES[case]
        self.system = LQR(**values, dimension=len(K[0]) if len(K[0]) > 1 else None)
        self.policy = (K[0][0], sigma[0]) if self.system.scalar else (np.array(K), np.array(sigma))
        n = self.system.matrices.A.shape[0]
        overrides = ["experiment=lqr", "algo=vpg", "step=fixed", f"step.rate={RATE}", f"policy.scale={scale}"]
        overrides += [f"state_weighting={weighting}", f"env.num_envs={episodes}", f"batch_size={episodes * HORIZON}"]
        overrides += [f"env.kwargs.{name}={value}" for name, value in values.items()]
        overrides += ["env.kwargs.dimension=2"] if n == 2 else []
        self.run = trainer(resolve(overrides))
        self.metric = construct_part(resolve(["metric=fisher"])["metric"], "metric")
        scales = sigma if scale == "sigma" else np.log(sigma)
        self.theta = torch.tensor([*np.ravel(K), *scales], dtype=torch.float64)
        self.run.state["actor"]["theta"] = self.theta
        self.agent = self.run.agent
        critic = self.agent.critic
        update = dataclasses.replace(critic.update, network=Network(Quadratic(n)))
        self.agent.critic = Learner(update, critic.schedule)
        self._value(n)

    def _value(self, n: int) -> None:
        """The critic's theta: V(s) = J from s = J without a start + the change that a start in s makes."""
        forms = {"A": self.system.A, "B": self.system.B, "Q": self.system.Q, "R": self.system.R}
        noise = {"noise_std": self.system.noise_std, "dimension": self.system.dimension}

        def J(start):
            return LQR(**forms, **noise, start_variance=start).J(*self.policy)

        def entry(i, j):
            e = np.eye(n)
            return (J((u := e[i] + e[j])[:, None] * u) - J((v := e[i] - e[j])[:, None] * v)) / 4

        if self.system.scalar:
            weights = [J(1.0) - J(0.0)]
        else:
            weights = [entry(i, j) for i in range(n) for j in range(n)]
        theta = torch.tensor([*weights, J(0.0)], dtype=torch.float64)
        self.run.state["critic"] = {"theta": theta, "parts": self.agent.critic.init(theta)}

    def batch(self):
        return self.run.collector.collect(self.agent.policy(self.run.state))

    def learn(self, batch):
        """The samples that the actor was given, theta after one step, and the scalars."""
        given = []
        actual = self.agent.actor.run

        def spy(theta, state, samples, *rest):
            given.append(samples)
            return actual(theta, state, samples, *rest)

        self.agent.actor.run = spy
        try:
            state, lesson = self.agent.learn(self.run.state, batch, self.run.minibatches)
        finally:
            self.agent.actor.run = actual
        assert lesson.failure is None
        return given[0], state["actor"]["theta"], lesson.scalars

    def fisher(self, samples):
        """(P, P) as metric=fisher has it on these samples."""
        metric, update = self.metric, self.agent.actor.update
        tape = update.network.tape(self.theta, samples.inputs)
        curvature, _ = metric.bind(metric.init(), tape, update.head, samples, update.objective)
        return curvature.dense().numpy()

    def gradient_and_fisher(self):
        """(P,) and (P, P): the step over its length, and the metric on the same samples."""
        samples, after, _ = self.learn(self.batch())
        return ((after - self.theta) / RATE).numpy(), self.fisher(samples)

    def close(self):
        self.run.collector.close()


def by_hand(sampled: Sampled, weighting: str, batch):
    """Shares (T, E), advantages, states and standardised noise, from the rollout's rows alone."""
    gamma = sampled.system.gamma
    t = np.arange(len(batch.rewards)) % HORIZON
    weight = np.broadcast_to((gamma**t if weighting == "discounted" else t * 0 + 1.0)[:, None], batch.rewards.shape)
    rewards, states = batch.rewards.numpy(), batch.inputs.numpy()
    theta = sampled.run.state["critic"]["theta"].numpy()

    def value(s):
        return s**2 * theta[0] + theta[1]

    following = value(batch.final.numpy()[:, 0])
    returns = np.zeros_like(rewards)
    for row in reversed(range(HORIZON)):
        following = returns[row] = rewards[row] + gamma * following
    s = states[:-1, :, 0]
    k, sigma = sampled.policy
    return weight / weight.sum(), returns - value(s), s, (batch.actions.numpy()[:, :, 0] - k * s) / sigma


@pytest.mark.parametrize("weighting", ["discounted", "uniform"])
def test_gradient_metric_and_kl_weight_every_state_alike(weighting):
    sampled = Sampled("noisy", weighting, "sigma", 3)
    try:
        batch = sampled.batch()
        share, advantages, s, e = by_hand(sampled, weighting, batch)
        samples, after, scalars = sampled.learn(batch)
        fisher = sampled.fisher(samples)
    finally:
        sampled.close()
    k, sigma = sampled.policy
    scores = np.stack([e * s / sigma, (e**2 - 1) / sigma])
    assert ((after - sampled.theta) / RATE).numpy() == pytest.approx(
        (share * advantages * scores).sum((1, 2)), rel=1e-6
    )
    expected = np.diag([(share * s**2).sum() / sigma**2, 2 / sigma**2])
    assert fisher == pytest.approx(expected, rel=1e-10, abs=1e-12)
    k_new, sigma_new = after.tolist()
    moved = sigma**2 + (share * (k_new - k) ** 2 * s**2).sum()
    assert scalars["step/kl"] == pytest.approx(np.log(sigma_new / sigma) + moved / (2 * sigma_new**2) - 0.5, rel=1e-6)


REPEATS, EPISODES = 50, 10  # 1e5 samples


@pytest.mark.parametrize("case, scale", [*((case, "sigma") for case in CASES), ("noisy", "log_sigma")])
@pytest.mark.parametrize("weighting", ["discounted", "uniform"])
def test_sampled_gradient_and_fisher_agree_with_the_closed_form(case, scale, weighting):
    sampled = Sampled(case, weighting, scale, EPISODES)
    try:
        pairs = [sampled.gradient_and_fisher() for _ in range(REPEATS)]
    finally:
        sampled.close()
    system, policy = sampled.system, sampled.policy
    if weighting == "discounted":
        per_step = 1 - system.gamma  # weights are divided by their sum; what lies beyond the horizon is 4e-5 of it
        exact = per_step * system.gradient(*policy, scale), per_step * system.fisher(*policy, scale)
    else:
        exact = (
            system.gradient(*policy, scale, uniform_over=HORIZON),
            system.fisher(*policy, scale, uniform_over=HORIZON),
        )
    for estimates, truth in zip(zip(*pairs, strict=True), exact, strict=True):
        mean, error = np.mean(estimates, 0), np.std(estimates, 0, ddof=1) / np.sqrt(REPEATS)
        assert (np.abs(mean - truth) <= 3 * error + 1e-9 * np.abs(truth).max()).all(), (mean, truth, error)
        large = np.abs(truth) > 0.3 * np.abs(truth).max()
        assert (error[large] < 0.1 * np.abs(truth[large])).all()  # else the comparison would say nothing


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(3))
def test_in_sigma_only_the_natural_gradient_reaches_the_optimum(seed):
    optimum = LQR().optimum()

    def final_k(*overrides):
        run = trainer(resolve(["experiment=lqr", f"seed={seed}", "env.num_envs=32", "batch_size=6400", *overrides]))
        run.state["actor"]["theta"][0] = -0.2
        k, sigma = run.state["actor"]["theta"].tolist()
        try:
            for _ in range(100):
                batch = run.collector.collect(run.agent.policy(run.state))
                run.state, _ = run.agent.learn(run.state, batch, run.minibatches)
                if run.state["actor"]["theta"][1] < 0.01:
                    break
                k, sigma = run.state["actor"]["theta"].tolist()
        finally:
            run.collector.close()
        assert 0.01 <= sigma < 0.025
        return k

    assert abs(final_k("algo=npg") - optimum) < 0.05
    assert abs(final_k("algo=trpo") - optimum) < 0.07
    assert final_k("algo=vpg", "step=trust_region", "step.radius=5e-5") == pytest.approx(-0.308, abs=0.02)
