"""Learning rate that falls as 1/k: lr_k = lr / (1 + decay k) after k updates (Robbins and Monro 1951).

Its sum diverges and the sum of its squares does not, which is what stochastic approximation asks for.
"""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LRScheduler

from rlopt.core.checks import positive


class InverseLR(LRScheduler):
    def __init__(self, optimizer: torch.optim.Optimizer, decay: float, last_epoch: int = -1):
        positive("decay", decay)  # of the rate per update, relative to the first: lr / (1 + k) at 1
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch types it more widely
        return [float(lr) / (1 + self.decay * self.last_epoch) for lr in self.base_lrs]
