"""Quadratic ratio penalty: l = r A - |A| (r - 1)^2 / (2 e) + c H (Xie et al. 2025, Simple Policy Optimization).

For each sample it is highest at r = 1 + e where A > 0 and at r = 1 - e where A < 0, the bounds at which PPO clips.
Beyond them its gradient leads back, where PPO's is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.arrays import library
from rlopt.core.checks import non_negative, positive
from rlopt.core.heads import Head
from rlopt.core.objectives.surrogate import add_entropy, add_entropy_hessian, ratio_hessian
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class SPO:
    """r A - |A| (r - 1)^2 / (2 e) + c H of each sample, with advantage A and ratio of policies r.

    Options:
        distance: e, how far from 1 the best ratio of every sample lies, a share of 1; above 0.
        entropy: c, the weight of the policy's entropy H, in units of A per nat; 0 or above.

    Source: Xie, Zhang, Yang, Hutter and Xu 2025, Simple Policy Optimization. Raises ValueError where an option is out
    of its range.
    """

    distance: float
    entropy: float

    serves: ClassVar[Literal["policy", "critic"]] = "policy"
    requirements: ClassVar[Requirements] = Requirements()
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("distance", self.distance)
        non_negative("entropy", self.entropy)

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = self._penalised(head.log_prob(z, samples.actions), samples)[0]
        return values + self.entropy * head.entropy(z) if self.entropy else values

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        log_prob, score = head.log_prob_and_score(z, samples.actions)
        values, slope, _ = self._penalised(log_prob, samples)
        return add_entropy(self.entropy, head, z, values, slope[:, None] * score)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        log_prob, s = head.log_prob_and_score(z, samples.actions)
        _, slope, bend = self._penalised(log_prob, samples)
        of_penalty = bend[:, None, None] * s[:, :, None] * s[:, None, :]
        return add_entropy_hessian(self.entropy, head, z, ratio_hessian(head, z, samples, slope) - of_penalty)

    def _penalised(self, log_prob: Tensor, samples: Samples) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) each: l without the entropy, r dl/dr = dl / d log pi, and -r^2 d^2 l/dr^2."""
        ratio, A = library(log_prob).exp(log_prob - samples.old_log_prob), samples.advantages
        weight = abs(A) / self.distance
        values = ratio * A - weight * (ratio - 1) ** 2 / 2
        return values, ratio * (A - weight * (ratio - 1)), weight * ratio * ratio
