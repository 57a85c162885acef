"""KL-adaptive learning rate: lower where the policy moved too far, higher where it hardly moved (Rudin et al. 2022).

    after each epoch, d the mean KL from the policy that acted:   lr <- lr / factor   if d > tolerance target
                                                                  lr <- factor lr     if 0 < d < target / tolerance

Rudin, Hoeller, Reist and Hutter, Learning to walk in minutes using massively parallel deep reinforcement learning. Its
library, rsl_rl, and skrl and rl_games have factor 1.5 and tolerance 2. They take d from minibatches while theta moves,
rsl_rl after each of these; here it is measured on the whole batch after each epoch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from rlopt.core.checks import check, positive


class KLAdaptiveLR(LRScheduler):
    """A learning rate, or a step's rate and radius, that follows the KL divergence of every epoch.

    Options:
        target: the KL to aim at, nats, mean over states; above 0. For a value, squared change over twice its variance.
        tolerance: the rate stays while the KL is within this factor of the target; above 1.
        factor: by which the rate changes; above 1.
        smallest, largest: bounds on the rate, as shares of the first; above 0, and 1 is between them.

    Raises ValueError where an option is out of its range.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        target: float,
        tolerance: float,
        factor: float,
        smallest: float,
        largest: float,
        last_epoch: int = -1,
    ):
        positive("target", target)
        for name, value in (("tolerance", tolerance), ("factor", factor)):
            check(1 < value < float("inf"), name, "a finite number above 1", value)
        check(0 < smallest <= 1, "smallest", "above 0, and at most 1", smallest)
        check(1 <= largest < float("inf"), "largest", "a finite number, 1 or above", largest)
        self.target, self.tolerance, self.factor = target, tolerance, factor
        self.smallest, self.largest = smallest, largest
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch types it more widely
        """The rates as they are: updates alone do not change them."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def adapted(self, group: dict[str, Any], kl: float) -> dict[str, Any]:
        """The optimizer's group of parameters with the rate after an epoch of this KL."""
        lr, first = float(group["lr"]), float(group["initial_lr"])
        if kl > self.tolerance * self.target:
            lr = max(lr / self.factor, self.smallest * first)
        elif 0 < kl < self.target / self.tolerance:  # 0: theta has not moved, such as in an update that was skipped
            lr = min(lr * self.factor, self.largest * first)
        return {**group, "lr": lr}
