"""Curvature as a running mean over minibatches: noise against staleness, with rlopt's Fisher metric and K-FAC.

    B_k = (1 - beta) sum_t beta^(k - t) F(theta_t, minibatch t), without bias from the first on

Noise falls as beta rises, B being a mean over about 1 / (1 - beta) minibatches; staleness grows, these being of thetas
that were left behind. On logistic regression, whose Hessian is its Fisher matrix and moves with theta.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.stochastic.problems import Problem
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import Bernoulli
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.network import Network
from rlopt.core.objectives.value import Value
from rlopt.core.samples import Samples
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update

DECAYS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_HEAD = Bernoulli(1)


def network(problem: Problem) -> Network:
    """Logistic regression as a policy of one bit."""
    return Network(nn.Linear(problem.a.shape[1], 1, bias=False))


def samples(problem: Problem, index: Tensor) -> Samples:
    return Samples(problem.a[index], (problem.y[index, None] + 1) / 2, torch.ones(len(index)))


def fisher(problem: Problem, net: Network, theta: Tensor, batch: Samples) -> Tensor:
    """(d, d) by rlopt's metric, in closed form over the labels."""
    tape = net.tape(theta, batch.inputs)
    return Fisher(None, 0).bind({}, tape, _HEAD, batch, Value())[0].dense()


@torch.no_grad()
def errors(problem: Problem, steps: int, batch: int, rate: float, seeds: int) -> dict[str, Any]:
    """|B_k - H(theta_k)| / |H(theta_k)| along SGD from 0: its mean over the way there and over the last quarter.

    `noise` has H's own running mean taken away, `staleness` is that running mean against H(theta_k).
    """
    net, d = network(problem), problem.a.shape[1]
    everything = samples(problem, torch.arange(len(problem.a)))
    sums = {phase: np.zeros((len(DECAYS), 3)) for phase in ("moving", "settled")}
    decay = torch.tensor(DECAYS)[:, None, None]
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        theta = torch.zeros(d)
        B, clean = torch.zeros(len(DECAYS), d, d), torch.zeros(len(DECAYS), d, d)
        for k in range(1, steps + 1):
            index = torch.randint(len(problem.a), (batch,), generator=generator)
            H = fisher(problem, net, theta, everything)
            B = decay * B + (1 - decay) * fisher(problem, net, theta, samples(problem, index))
            clean = decay * clean + (1 - decay) * H
            unbias = 1 / (1 - decay**k)
            parts = (B * unbias - H, (B - clean) * unbias, clean * unbias - H)
            size = torch.linalg.matrix_norm(H)
            phase = "moving" if k <= steps // 4 else "settled" if k > steps * 3 // 4 else None
            if phase:
                rows = torch.stack([torch.linalg.matrix_norm(part) / size for part in parts], 1)
                sums[phase] += rows.numpy() / (seeds * (steps // 4))
            theta = theta - rate * problem.gradient(theta[None], index[None])[0]
    return {
        "decays": DECAYS,
        **{phase: {name: rows[:, i].tolist() for i, name in enumerate(("all", "noise", "staleness"))}
           for phase, rows in sums.items()},
    }  # fmt: skip


def kfac(problem: Problem, steps: int, batch: int, rate: float, seeds: int) -> dict[str, Any]:
    """Excess h - h* along rlopt's K-FAC, whose factors are running means of this decay, mean over seeds.

    At an early and at the last step. The ridge is no part of the model: the problem must have none.
    """
    net, early = network(problem), max(steps // 10, 1)
    found: dict[str, Any] = {"decays": DECAYS, "early_step": early, "last_step": steps, "early": [], "last": []}
    for decay in DECAYS:
        update = Update(net, _HEAD, Value(), Fisher(None, 0), KFAC("exact", decay, 1, 1), Constant(1e-3), Fixed(rate))
        ends: dict[str, list[float]] = {"early": [], "last": []}
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            theta = torch.zeros(problem.a.shape[1])
            state = update.init(theta)
            for k in range(1, steps + 1):
                index = torch.randint(len(problem.a), (batch,), generator=generator)
                theta, state, _ = update(theta, state, samples(problem, index))
                if k in (early, steps):
                    ends["early" if k == early else "last"].append(float(problem.excess(theta[None])))
        for name, values in ends.items():
            spread = 1.96 * np.std(values, ddof=1) / seeds**0.5
            found[name].append([float(np.mean(values)), float(spread)])
    return found
