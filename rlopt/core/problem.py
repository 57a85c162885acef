"""Problem: the objective that an update climbs, and what a step may ask about the point it starts from and others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol, cast

import torch
from torch import Tensor

from rlopt.core.curvature import PullBack
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_ranks, all_sum, all_sums


class Objective(Protocol):
    """A function of each sample's outputs z; g is the gradient in theta of samples.mean(values)."""

    serves: ClassVar[Literal["policy", "critic"]]  # whose samples it reads: with advantages, or with targets as actions

    @property
    def requirements(self) -> Requirements: ...

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        """(B,) each sample's contribution at outputs z (B, O)."""

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        """The same, with its gradient in z (B, O)."""

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        """(B, O, O) Hessian in z of each sample's value."""


class AdaptiveObjective(Objective, Protocol):
    """An objective with a coefficient that every update changes. Its state is plain numbers."""

    def init(self) -> dict[str, Any]: ...

    def at(self, state: dict[str, Any]) -> Objective:
        """The objective with the coefficient that ``state`` holds."""

    def adapt(self, state: dict[str, Any], kl: float) -> dict[str, Any]:
        """State after a whole update that took the policy ``kl`` nats, mean over states, from the one that acted."""


def adaptive_objective(objective: Objective) -> AdaptiveObjective | None:
    """The objective, if it is one that adapts."""
    return cast(AdaptiveObjective, objective) if hasattr(objective, "adapt") else None


@dataclass(frozen=True)
class Trial:
    """A candidate theta, measured on the same samples with one forward pass."""

    objective: Tensor  # () mean objective
    kl: Tensor  # () mean KL(start || candidate), nats
    in_domain: Tensor  # () bool


@dataclass(frozen=True)
class Problem:
    """One step's starting point, and measurements there and elsewhere on the same samples."""

    network: Network
    head: Head
    objective: Objective
    given: Samples  # tensors or arrays
    tape: Tape  # at the theta the step starts from
    value: Tensor | float  # () mean objective there
    l2: float = 0.0  # of its term -l2 / 2 |theta|^2
    # theta (P,) -> the direction x (P,) there, on the same samples; None where some quantity is not finite
    solve_at: Callable[[Tensor], Tensor | None] = lambda theta: None

    @cached_property
    def samples(self) -> Samples:
        """The samples, as tensors."""
        return self.given if isinstance(self.given.weight, Tensor) else self.given.map(torch.from_numpy)

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
        """True if theta is finite and its outputs name distributions, on every rank."""
        if not self.head.bounded:
            return bool(theta.sum().isfinite())
        return all_ranks(self.head.in_domain(self.network.outputs(theta, self.samples.inputs)))


def step_length(quadratic: Tensor, x: Tensor, damping: Tensor | float, radius: float, largest: float) -> Tensor:
    """alpha (), the length at which a quadratic model of distance reaches ``radius``, in the units of 1/2 q.

        alpha = min(largest, sqrt(2 radius / max(q, (q + lambda x^T x) / 4))),   q = x^T M x, undamped

    The second term keeps a step finite where q is nearly 0 and only lambda holds x; where both terms are <= 0 the model
    says nothing, and ``largest`` is used.
    """
    damped = (quadratic + damping * torch.dot(x, x)) / 4
    denominator = torch.maximum(quadratic, damped)
    alpha = torch.where(denominator > 0, (2 * radius / denominator).sqrt(), torch.inf)
    return alpha.clamp(max=largest)
