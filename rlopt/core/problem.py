"""Problem: what a step may ask about the point it starts from and the points it might go to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlopt.core.curvature import PullBack
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.objectives.objective import Objective
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_ranks, all_sum, all_sums


@dataclass(frozen=True)
class Trial:
    """A candidate theta, measured on the same samples with one forward pass."""

    objective: Tensor  # () mean objective
    kl: Tensor  # () mean KL(start || candidate), nats
    in_domain: Tensor  # () bool


@dataclass(frozen=True)
class Problem:
    network: Network
    head: Head
    objective: Objective
    samples: Samples
    tape: Tape  # at the theta the step starts from
    value: Tensor  # () mean objective there
    l2: float = 0.0  # of its term -l2 / 2 |theta|^2

    def trial(self, theta: Tensor) -> Trial:
        """Objective, KL from the start of this step, and domain at theta."""
        z, share = self.network.outputs(theta, self.samples.inputs), self.samples.share
        objective, kl, outside = all_sums(
            torch.dot(share, self.objective.values(self.head, z, self.samples)),
            torch.dot(share, self.head.kl(self.tape.outputs, z)),
            (~self.head.in_domain(z)).to(z),
        )
        if self.l2:
            objective = objective - self.l2 / 2 * torch.dot(theta, theta)
        return Trial(objective, kl, in_domain=outside == 0)

    def fisher(self, v: Tensor) -> Tensor:
        """F v with the analytic Fisher matrix (P, P), whose 1/2 v^T F v is KL in nats to second order."""
        apply = self.head.fisher_product(self.tape.outputs)
        return PullBack(self.tape, self.samples.share, apply).product(v)

    def squared_length(self, v: Tensor) -> Tensor:
        """v^T F v (), which needs J v alone."""
        t = self.tape.jvp(v)
        Ct = self.head.fisher_product(self.tape.outputs)(t)
        return all_sum(torch.dot(self.samples.share, Ct.mul_(t).sum(1)))

    def in_domain(self, theta: Tensor) -> bool:
        """Whether theta is finite and its outputs name distributions, on every rank."""
        if not self.head.bounded:
            return bool(theta.sum().isfinite())
        return all_ranks(self.head.in_domain(self.network.outputs(theta, self.samples.inputs)))
