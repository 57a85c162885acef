"""KL penalty: l = r A - beta KL(pi_old || pi) + c H, beta adapted (Schulman et al. 2017, PPO, section 4, eq. 8).

    after each update, d the mean KL it came to:   beta <- factor beta   if d > tolerance target
                                                   beta <- beta / factor if d < target / tolerance

Paper: tolerance 1.5, factor 2. Deviation: beta has bounds, from which it comes back in a few updates; without them a
policy that has stopped moving would let it sink to a zero that no doubling leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from torch import Tensor

from rlopt.core.checks import check, positive
from rlopt.core.heads import Head
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.requirements import Requirements
from rlopt.core.samples import Samples


@dataclass(frozen=True)
class KLPenalty:
    """r A - beta KL(pi_old || pi) + c H of each sample; the state holds beta, which follows the KL of every update.

    Options:
        target: the KL to aim at, nats, mean over states; above 0.
        beta: the penalty's weight in the first update, in units of A per nat; between smallest and largest.
        tolerance: beta stays while the KL is within this factor of the target; above 1.
        factor: by which beta changes; above 1.
        smallest, largest: bounds on beta; above 0.
        entropy: c, the weight of the policy's entropy H, in units of A per nat; 0 or above.

    Source: Schulman et al. 2017, PPO, section 4, eq. 8. Raises ValueError where an option is out of its range.
    """

    target: float
    beta: float
    tolerance: float
    factor: float
    smallest: float
    largest: float
    entropy: float

    serves: ClassVar[Literal["policy", "critic"]] = "policy"
    requirements: ClassVar[Requirements] = Requirements()

    def __post_init__(self) -> None:
        for name in ("target", "smallest", "largest"):
            positive(name, getattr(self, name))
        check(self.smallest <= self.beta <= self.largest, "beta", "between smallest and largest", self.beta)
        for name in ("tolerance", "factor"):
            check(1 < getattr(self, name) < float("inf"), name, "a finite number above 1", getattr(self, name))
        _ = self._surrogate  # its check

    @cached_property
    def _surrogate(self) -> Surrogate:
        return Surrogate(self.entropy)

    def init(self) -> dict[str, Any]:
        return {"beta": self.beta}

    def at(self, state: dict[str, Any]) -> KLPenalty:
        return self if state["beta"] == self.beta else replace(self, beta=state["beta"])

    def adapt(self, state: dict[str, Any], kl: float) -> dict[str, Any]:
        beta = state["beta"]
        if kl > self.tolerance * self.target:
            beta *= self.factor
        elif kl < self.target / self.tolerance:
            beta /= self.factor
        return {"beta": min(max(beta, self.smallest), self.largest)}

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        return self._surrogate.values(head, z, samples) - self.beta * head.kl(samples.old_outputs, z)

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        values, gradient = self._surrogate.values_and_gradient(head, z, samples)
        old = samples.old_outputs
        return values - self.beta * head.kl(old, z), gradient - self.beta * head.kl_gradient(old, z)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        return self._surrogate.hessian(head, z, samples) - self.beta * head.kl_hessian(samples.old_outputs, z)
