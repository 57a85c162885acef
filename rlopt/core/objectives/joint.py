"""Joint objective: l = l_pi + c log p(target | V), for a policy and a value from one network (see heads.Joint).

It adds the log-likelihood of a critic to any objective of a policy, each in its own part of z = (V, z_pi). Squared
error has the weight c / (2 variance), so that at c = 1 the value's block of the GGN is that of the Fisher matrix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import positive
from rlopt.core.heads import Head, Joint
from rlopt.core.heads.joint import blocks
from rlopt.core.problem import Objective, adaptive_objective
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class JointObjective:
    """l_pi + c log N(target; V, variance) of each sample, for one network with a Joint head.

    The samples' ``actions`` are rows (target, action); their ``old_log_prob`` is the policy's alone.

    Options:
        policy: the policy's own objective, l_pi.
        value_weight: c, in units of the advantage per nat; above 0.

    Source: Wu et al. 2017, ACKTR, section 3.1. Raises ValueError where an option is out of its range.
    """

    policy: Objective
    value_weight: float

    serves: ClassVar[Literal["policy", "critic"]] = "policy"

    def __post_init__(self) -> None:
        positive("value_weight", self.value_weight)

    @property
    def requirements(self) -> Requirements:
        return self.policy.requirements

    def init(self) -> dict[str, Any]:
        policy = adaptive_objective(self.policy)
        return policy.init() if policy else {}

    def at(self, state: dict[str, Any]) -> JointObjective:
        policy = adaptive_objective(self.policy)
        return replace(self, policy=policy.at(state)) if policy else self

    def adapt(self, state: dict[str, Any], kl: float) -> dict[str, Any]:
        policy = adaptive_objective(self.policy)
        return policy.adapt(state, kl) if policy else state

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        joint, targets, policy_samples = _split(head, samples)
        value = joint.value.log_prob(z[:, :1], targets)
        return self.policy.values(joint.policy, z[:, 1:], policy_samples) + self.value_weight * value

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        joint, targets, policy_samples = _split(head, samples)
        value, score = joint.value.log_prob_and_score(z[:, :1], targets)
        values, gradient = self.policy.values_and_gradient(joint.policy, z[:, 1:], policy_samples)
        return values + self.value_weight * value, torch.cat([self.value_weight * score, gradient], 1)

    def clipped(self, head: Head, z: Tensor, samples: Samples) -> Tensor | None:
        """(B,) as the policy's objective has it, where that clips."""
        joint, _, policy_samples = _split(head, samples)
        clipped = getattr(self.policy, "clipped", None)
        return clipped(joint.policy, z[:, 1:], policy_samples) if clipped else None

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        joint, targets, policy_samples = _split(head, samples)
        value = joint.value.log_prob_hessian(z[:, :1], targets)
        return blocks(self.value_weight * value, self.policy.hessian(joint.policy, z[:, 1:], policy_samples))


def _split(head: Head, samples: Samples) -> tuple[Joint, Tensor, Samples]:
    """The head, the value's targets (B, 1), and the samples as the policy's objective knows them."""
    assert isinstance(head, Joint)
    targets, actions = head.unpack(samples.actions)
    return head, targets, samples.replacing(actions=actions, old_outputs=samples.old_outputs[:, 1:])
