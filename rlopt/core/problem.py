"""Problem: what a step may ask about the point it starts from and the points it might go to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlopt.core.curvature import PullBack
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.objectives.objective import Objective
from rlopt.core.samples import Samples
from rlopt.core.tape import Tape


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

    def trial(self, theta: Tensor) -> Trial:
        """Objective, KL from the start of this step, and domain at theta."""
        z = self.network.outputs(theta, self.samples.inputs)
        return Trial(
            objective=self.samples.mean(self.objective.values(self.head, z, self.samples)),
            kl=self.samples.mean(self.head.kl(self.tape.outputs, z)),
            in_domain=self.head.in_domain(z),
        )

    def fisher(self, v: Tensor) -> Tensor:
        """F v with the analytic Fisher matrix (P, P), whose 1/2 v^T F v is KL in nats to second order."""
        apply = self.head.fisher_product(self.tape.outputs)
        return PullBack(self.tape, self.samples.share, apply).product(v)

    def in_domain(self, theta: Tensor) -> bool:
        """Whether theta is finite and its outputs name distributions."""
        if not self.head.bounded:
            return bool(theta.sum().isfinite())
        return bool(self.head.in_domain(self.network.outputs(theta, self.samples.inputs)))
