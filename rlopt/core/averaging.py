"""Polyak averaging of theta, for evaluation (Polyak and Juditsky 1992): one lerp per update.

uniform   mean_k = mean_{k-1} + (theta_k - mean_{k-1}) / k
ema       mean_k = mean_{k-1} + (1 - decay) (theta_k - mean_{k-1}) / (1 - decay^k), unbiased from the first update
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.parts import State
from rlopt.core.requirements import Requirements


@dataclass(frozen=True)
class Averaging:
    """The mean of theta (P,) over updates; the state holds it and their number.

    Options:
        kind: none keeps no mean; uniform weighs all updates alike; ema weighs late ones more.
        decay: what ema multiplies older weights with at each update; 0 or above and below 1. Other kinds ignore it.

    Source: Polyak and Juditsky 1992. Raises ValueError where an option is out of its range.
    """

    kind: Literal["none", "uniform", "ema"]
    decay: float

    def __post_init__(self) -> None:
        check(self.kind in ("none", "uniform", "ema"), "kind", "none, uniform or ema", self.kind)
        check(0 <= self.decay < 1, "decay", "0 or above, and below 1", self.decay)

    @property
    def requirements(self) -> Requirements:
        return Requirements(unread={} if self.kind == "ema" else {"decay": "kind"})

    def init(self, theta: Tensor) -> State:
        return {} if self.kind == "none" else {"theta": theta.clone(), "count": 0}

    def update(self, state: State, theta: Tensor) -> State:
        """State after an update that led to theta (P,)."""
        if self.kind == "none":
            return state
        count = state["count"] + 1
        weight = 1 / count if self.kind == "uniform" else (1 - self.decay) / (1 - self.decay**count)
        return {"theta": torch.lerp(state["theta"], theta, weight), "count": count}
