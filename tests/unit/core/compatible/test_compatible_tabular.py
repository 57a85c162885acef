"""NAC and eNAC at their defaults against F^+ g of a tabular problem whose model is known exactly."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.training.trainer import Trainer
from tests.support.building import resolve, trainer
from tests.support.densities import log_prob

STATES, ACTIONS, SAMPLES = 5, 3, 40_000
NEXT = np.random.default_rng(0).dirichlet(np.full(STATES, 0.5), (STATES, ACTIONS))  # p(s' | s, a)
REWARD = np.random.default_rng(1).normal(size=(STATES, ACTIONS))
END = np.random.default_rng(2).uniform(0.1, 0.3, STATES)  # p(the episode ends | s), where episodes end at all


class Tabular(gym.Env):
    """A Markov decision process drawn once, from state 0 on."""

    def __init__(self, ends: bool, render_mode: None = None):
        self.observation_space, self.action_space = gym.spaces.Discrete(STATES), gym.spaces.Discrete(ACTIONS)
        self.ends = ends

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return self.state, {}

    def step(self, action):
        reward, ended = REWARD[self.state, action], self.ends and self.np_random.random() < END[self.state]
        self.state = int((self.np_random.random() > NEXT[self.state, action].cumsum()[:-1]).sum())
        return self.state, reward, bool(ended), False, {}


gym.register("probe/Tabular-v0", Tabular)


def natural_gradient(run: Trainer, ends: bool, gamma: float) -> np.ndarray:
    """F^+ g (P,): F = E score score^T and g = E score Q, in the model, over the states that the policy visits."""
    network, theta = run.agent.actor.update.network, run.state["actor"]["theta"].double()
    head, states = run.agent.head, torch.eye(STATES, dtype=torch.float64)
    inputs = states.repeat_interleave(ACTIONS, 0)
    actions = torch.arange(ACTIONS).repeat(STATES)

    def logs(theta):
        return log_prob(head, network.outputs(theta, inputs), actions)

    score = torch.autograd.functional.jacobian(logs, theta).numpy()
    pi = logs(theta).exp().reshape(STATES, ACTIONS).numpy()
    onward = NEXT * (1 - END[:, None, None] if ends else 1)
    P = np.einsum("sa,sat->st", pi, onward)
    V = np.linalg.solve(np.eye(STATES) - gamma * P, (pi * REWARD).sum(1))
    if ends:
        visits = np.linalg.solve(np.eye(STATES) - P.T, np.eye(STATES)[0])
    else:
        visits = np.linalg.matrix_power(P, 1000)[0]
    weight = (visits[:, None] * pi / visits.sum()).ravel()
    F = score.T @ (weight[:, None] * score)
    return np.linalg.pinv(F, 1e-10, hermitian=True) @ (score.T @ (weight * (REWARD + gamma * onward @ V).ravel()))


@pytest.mark.learning
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("policy", ["policy=linear", "policy.hidden=[8]"])
@pytest.mark.parametrize(("algo", "gamma"), [("nac", 0.99), ("enac", 1.0)])
def test_the_direction_is_the_natural_gradient_within_a_tenth(algo, gamma, policy, seed, tmp_path: Path):
    """At 40,000 samples; eNAC's episodes end, and their undiscounted returns are what it climbs. NAC is 1 to 3% off,
    eNAC 2 to 4%."""
    ends = algo == "enac"
    run = trainer(
        resolve([f"algo={algo}", "env.id=probe/Tabular-v0", f"env.kwargs.ends={ends}", policy, f"seed={seed}",
                 f"batch_size={SAMPLES}", "env.num_envs=8", f"total_steps={SAMPLES}", "rewards.scale=false",
                 f"run_dir={tmp_path / 'run'}"])
    )  # fmt: skip
    wanted = natural_gradient(run, ends, gamma)
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    state, _ = run.agent.learn(run.state, batch, run.minibatches)
    found = state["actor"]["parts"]["solver"]["w"].double().numpy()
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert error < 0.1
