"""Surrogate objective: l = r A + c H, r = pi(a | s) / pi_old(a | s) (Schulman et al. 2015, TRPO, eq. 14).

At the acting policy r = 1 and the gradient is the policy gradient; away from it r corrects for the change of policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.checks import non_negative
from rlopt.core.heads import Head
from rlopt.core.objectives.objective import add_entropy, add_entropy_hessian, ratio_hessian
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class Surrogate:
    entropy: float  # c >= 0, weight of the entropy bonus

    serves: ClassVar[Literal["policy", "critic"]] = "policy"

    def __post_init__(self) -> None:
        non_negative("entropy", self.entropy)

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = (head.log_prob(z, samples.actions) - samples.old_log_prob).exp() * samples.advantages
        return values + self.entropy * head.entropy(z) if self.entropy else values

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        log_prob, score = head.log_prob_and_score(z, samples.actions)
        values = (log_prob - samples.old_log_prob).exp_().mul_(samples.advantages)
        return add_entropy(self.entropy, head, z, values, values[:, None] * score)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = (head.log_prob(z, samples.actions) - samples.old_log_prob).exp_().mul_(samples.advantages)
        return add_entropy_hessian(self.entropy, head, z, ratio_hessian(head, z, samples, values))
