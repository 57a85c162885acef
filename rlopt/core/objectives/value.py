"""Value objective: l = log p(target | V(s)), squared error in units of the value head's variance.

Maximising it is regression on the targets: dl/dV = (target - V) / variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.heads import Head
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class Value:
    """log N(target; V(s), variance) of each sample: a critic's squared error. It has no options.

    The variance, in squared units of the return, is the value head's. The targets (B, 1) stand where a policy's
    samples have their actions.
    """

    serves: ClassVar[Literal["policy", "critic"]] = "critic"
    requirements: ClassVar[Requirements] = Requirements()
    takes_arrays: ClassVar[bool] = True

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        return head.log_prob(z, samples.actions)

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        return head.log_prob_and_score(z, samples.actions)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        return head.log_prob_hessian(z, samples.actions)
