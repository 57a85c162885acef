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
from rlopt.core.objectives.objective import Objective, adaptive
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class JointObjective:
    """``actions`` of the samples are rows (target, action); their ``old_log_prob`` is the policy's alone."""

    policy: Objective
    value_weight: float  # c > 0

    serves: ClassVar[Literal["policy", "critic"]] = "policy"

    def __post_init__(self) -> None:
        positive("value_weight", self.value_weight)

    def init(self) -> dict[str, Any]:
        own = adaptive(self.policy)
        return own.init() if own else {}

    def at(self, state: dict[str, Any]) -> JointObjective:
        own = adaptive(self.policy)
        return replace(self, policy=own.at(state)) if own else self

    def adapt(self, state: dict[str, Any], kl: float) -> dict[str, Any]:
        own = adaptive(self.policy)
        return own.adapt(state, kl) if own else state

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        joint, targets, own = _parts(head, samples)
        value = joint.value.log_prob(z[:, :1], targets)
        return self.policy.values(joint.policy, z[:, 1:], own) + self.value_weight * value

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        joint, targets, own = _parts(head, samples)
        value, score = joint.value.log_prob_and_score(z[:, :1], targets)
        values, gradient = self.policy.values_and_gradient(joint.policy, z[:, 1:], own)
        return values + self.value_weight * value, torch.cat([self.value_weight * score, gradient], 1)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        joint, targets, own = _parts(head, samples)
        value = joint.value.log_prob_hessian(z[:, :1], targets)
        return blocks(self.value_weight * value, self.policy.hessian(joint.policy, z[:, 1:], own))


def _parts(head: Head, samples: Samples) -> tuple[Joint, Tensor, Samples]:
    """The head, the value's targets (B, 1), and the samples as the policy's objective knows them."""
    assert isinstance(head, Joint)
    targets, actions = head.unpack(samples.actions)
    return head, targets, samples.replacing(actions=actions, old_outputs=samples.old_outputs[:, 1:])
