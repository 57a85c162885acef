"""Clipped surrogate: l = min(r A, clip(r, 1 - e, 1 + e) A) + c H (Schulman et al. 2017, PPO, eq. 7).

The gradient is that of r A where r has not yet left the interval in the direction that A rewards, and 0 beyond.
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
class Clipped:
    """min(r A, clip(r, 1 - e, 1 + e) A) + c H of each sample, with advantage A and ratio of policies r.

    Options:
        clip: e, how far r may leave 1 before the gradient stops, a share of 1; above 0.
        entropy: c, the weight of the policy's entropy H, in units of A per nat; 0 or above.

    Source: Schulman et al. 2017, PPO, eq. 7. Raises ValueError where an option is out of its range.
    """

    clip: float
    entropy: float

    serves: ClassVar[Literal["policy", "critic"]] = "policy"
    requirements: ClassVar[Requirements] = Requirements()
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("clip", self.clip)
        non_negative("entropy", self.entropy)

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        values = self._clip(head.log_prob(z, samples.actions), samples)[0]
        return values + self.entropy * head.entropy(z) if self.entropy else values

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        log_prob, score = head.log_prob_and_score(z, samples.actions)
        values, unclipped = self._clip(log_prob, samples)
        slope = _slope(values, unclipped)
        return add_entropy(self.entropy, head, z, values, slope[:, None] * score)

    def clipped(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        """(B,) 1 where r is outside of [1 - e, 1 + e], else 0."""
        ratio = (head.log_prob(z, samples.actions) - samples.old_log_prob).exp()
        return ((ratio - 1).abs() > self.clip).to(z.dtype)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        slope = _slope(*self._clip(head.log_prob(z, samples.actions), samples))
        return add_entropy_hessian(self.entropy, head, z, ratio_hessian(head, z, samples, slope))

    def _clip(self, log_prob: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        ratio = library(log_prob).exp(log_prob - samples.old_log_prob)
        unclipped = ratio * samples.advantages
        clipped = ratio.clip(1 - self.clip, 1 + self.clip) * samples.advantages
        return library(log_prob).minimum(unclipped, clipped), unclipped


def _slope(values: Tensor, unclipped: Tensor) -> Tensor:
    """(B,) derivative in log pi: where the minimum is r A it is r A itself, elsewhere 0."""
    slope: Tensor = library(values).where(values == unclipped, unclipped, 0.0)
    return slope
