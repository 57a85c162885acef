"""Log-probability objective: l = A log pi(a | s) + c H(pi(. | s)) (Williams 1992, REINFORCE with a baseline).

Its gradient at the acting policy is the policy gradient; its value is no estimate of the return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.checks import non_negative
from rlopt.core.heads import Head
from rlopt.core.objectives.surrogate import add_entropy, add_entropy_hessian
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class LogProb:
    """A log pi(a | s) + c H of each sample, with advantage A: the policy gradient theorem's objective.

    Options:
        entropy: c, the weight of the policy's entropy H, in units of A; 0 or above.

    Source: Williams 1992, REINFORCE with a baseline. Raises ValueError where an option is out of its range.
    """

    entropy: float

    serves: ClassVar[Literal["policy", "critic"]] = "policy"
    requirements: ClassVar[Requirements] = Requirements()
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        non_negative("entropy", self.entropy)

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = samples.advantages * head.log_prob(z, samples.actions)
        return values + self.entropy * head.entropy(z) if self.entropy else values

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        log_prob, score = head.log_prob_and_score(z, samples.actions)
        gradient = samples.advantages[:, None] * score
        return add_entropy(self.entropy, head, z, samples.advantages * log_prob, gradient)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        hessian = samples.advantages[:, None, None] * head.log_prob_hessian(z, samples.actions)
        return add_entropy_hessian(self.entropy, head, z, hessian)
