"""What importance weights leave of a gradient's noise, by the distance between two policies of the regulator.

At theta_s = (k, log sigma), and at theta, a step of DISTANCES in both coordinates towards the optimum, the gradient is
known exactly. From batches of theta's samples,

    E |g - g_w - (grad J(theta) - grad J(theta_s))|^2  /  E |g - grad J(theta)|^2

is the error of the correction over that of the plain gradient, bias included: below 1, v = mu + g - g_w with an exact
mu is better than g.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from experiments.variance_reduction.training import HORIZON, SIGMA, SYSTEM
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.importance import Batch, Weights
from rlopt.core.network import Network
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.samples import Samples

K, EPISODES = -0.5, 4
DISTANCES = (0.003, 0.01, 0.03, 0.1)
KINDS = {
    "decision": Weights("decision", None, False),
    "decision, at most 2": Weights("decision", 2.0, False),
    "decision, self-normalised": Weights("decision", None, True),
    "trajectory": Weights("trajectory", None, False),
}
_HEAD = DiagonalGaussian(1)
_NETWORK = Network(nn.Sequential(nn.Linear(1, 1, bias=False, dtype=torch.float64)), 1)


def simulated(k: float, log_sigma: float, rng: np.random.Generator) -> Samples:
    """EPISODES whole episodes of the policy, with advantages over its value function (lambda = 1)."""
    s, states, actions = rng.standard_normal(EPISODES), [], []
    for _ in range(HORIZON):
        states.append(s)
        actions.append(k * s + np.exp(log_sigma) * rng.standard_normal(EPISODES))
        s = SYSTEM.A * s + SYSTEM.B * actions[-1] + SYSTEM.noise_std * rng.standard_normal(EPISODES)
    S, A = torch.from_numpy(np.array([*states, s])), torch.from_numpy(np.array(actions))
    P = (1 + k**2) / (1 - SYSTEM.gamma * (1 + k) ** 2)  # V(s) = -P s^2 + const, for A = B = Q = R = 1
    const = (float(SYSTEM.J(k, np.exp(log_sigma)))) + P  # of a start of variance 1
    V = const - P * S**2
    deltas = -(S[:-1] ** 2 + A**2) + SYSTEM.gamma * V[1:] - V[:-1]
    advantages, later = torch.zeros_like(A), torch.zeros(EPISODES, dtype=torch.float64)
    for t in reversed(range(HORIZON)):
        later = deltas[t] + SYSTEM.gamma * later
        advantages[t] = later
    inputs, drawn = S[:-1].reshape(-1, 1), A.reshape(-1, 1)
    z = _NETWORK.outputs(torch.tensor([k, log_sigma], dtype=torch.float64), inputs)
    time = torch.arange(HORIZON).repeat_interleave(EPISODES)
    weight, episode = SYSTEM.gamma ** time.double(), torch.arange(EPISODES).repeat(HORIZON)
    return Samples(inputs, drawn, weight, advantages.flatten(), z, _HEAD.log_prob(z, drawn), time, episode)


@torch.no_grad()
def errors(batches: int) -> list[list[object]]:
    """Rows (kind, distance, error of the correction over that of the plain gradient)."""
    total = (1 - SYSTEM.gamma**HORIZON) / (1 - SYSTEM.gamma)
    rows: list[list[object]] = []
    snapshot = np.array([K, np.log(SIGMA)])
    for distance in DISTANCES:
        theta, rng = snapshot - distance, np.random.default_rng(0)
        here, there = (SYSTEM.gradient(k, np.exp(ls), "log_sigma") / total for k, ls in (theta, snapshot))
        plain, corrected = 0.0, dict.fromkeys(KINDS, 0.0)
        for _ in range(batches):
            batch = Batch(_NETWORK, _HEAD, LogProb(0.0), simulated(*theta, rng), SYSTEM.gamma)
            own = Weights("decision", None, False)
            g = batch.gradient_at(torch.from_numpy(theta), own)[0].numpy()
            plain += float(((g - here) ** 2).sum())
            for kind, weights in KINDS.items():
                old = batch.gradient_at(torch.from_numpy(snapshot), weights)[0].numpy()
                corrected[kind] += float(((g - old - (here - there)) ** 2).sum())
        rows += [[kind, distance, error / plain] for kind, error in corrected.items()]
    return rows
