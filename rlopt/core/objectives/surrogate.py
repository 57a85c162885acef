"""Surrogate objective: l = r A + c H, r = pi(a | s) / pi_old(a | s) (Schulman et al. 2015, TRPO, eq. 14).

At the acting policy r = 1 and the gradient is the policy gradient; away from it r corrects for the change of policy.
The other objectives of a policy use this file's entropy bonus and Hessian of r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.arrays import library
from rlopt.core.checks import non_negative
from rlopt.core.heads import Head
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class Surrogate:
    """r A + c H of each sample: its advantage A, corrected by the ratio r where an older policy took the action.

    Options:
        entropy: c, the weight of the policy's entropy H, in units of A per nat; 0 or above.

    Source: Schulman et al. 2015, TRPO, eq. 14. Raises ValueError where an option is out of its range.
    """

    entropy: float

    serves: ClassVar[Literal["policy", "critic"]] = "policy"
    requirements: ClassVar[Requirements] = Requirements()
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        non_negative("entropy", self.entropy)

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = (head.log_prob(z, samples.actions) - samples.old_log_prob).exp() * samples.advantages
        return values + self.entropy * head.entropy(z) if self.entropy else values

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        log_prob, score = head.log_prob_and_score(z, samples.actions)
        values = library(z).exp(log_prob - samples.old_log_prob) * samples.advantages
        return add_entropy(self.entropy, head, z, values, values[:, None] * score)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = (head.log_prob(z, samples.actions) - samples.old_log_prob).exp_().mul_(samples.advantages)
        return add_entropy_hessian(self.entropy, head, z, ratio_hessian(head, z, samples, values))


def add_entropy(coefficient: float, head: Head, z: Tensor, values: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """values + coefficient H(p(. | z)), and its gradient."""
    if not coefficient:
        return values, gradient
    return values + coefficient * head.entropy(z), gradient + coefficient * head.entropy_gradient(z)


def add_entropy_hessian(coefficient: float, head: Head, z: Tensor, hessian: Tensor) -> Tensor:
    """hessian + coefficient times that of H(p(. | z)), (B, O, O)."""
    return hessian + coefficient * head.entropy_hessian(z) if coefficient else hessian


def ratio_hessian(head: Head, z: Tensor, samples: Samples, slope: Tensor) -> Tensor:
    """slope (B,) times the Hessian of r = pi / pi_old over r: slope (s s^T + H), s and H of log pi; (B, O, O)."""
    _, s = head.log_prob_and_score(z, samples.actions)
    return slope[:, None, None] * (s[:, :, None] * s[:, None, :] + head.log_prob_hessian(z, samples.actions))
