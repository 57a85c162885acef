"""Levenberg-Marquardt damping: lambda grows where the metric's quadratic model fails and falls where it holds.

    lambda <- factor_up lambda    if rho < low, or the step was rejected
    lambda <- factor_down lambda  if rho > high            (Marquardt 1963; Moré 1978; Martens 2010, section 4.1)

rho compares the model with the step that was taken, see `agreement`: improvement for the metrics ggn and hessian, KL
for fisher. Where rho is no number (the model foresaw no gain) lambda stays. Made for steps of the direction's own
length, such as step=armijo or step=fixed with rate 1; a trust region's length makes up for lambda in part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.checks import check, positive
from rlopt.core.parts import Scalars, State


@dataclass(frozen=True)
class LevenbergMarquardt:
    value: float  # lambda at the start, > 0, in units of M
    low: float  # rho below which lambda is raised
    high: float  # rho above which it is lowered
    factor_up: float  # > 1
    factor_down: float  # between 0 and 1
    smallest: float  # bounds on lambda, > 0
    largest: float

    measures: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("value", "smallest", "largest"):
            positive(name, getattr(self, name))
        check(self.smallest <= self.value <= self.largest, "value", "between smallest and largest", self.value)
        check(self.low < self.high, "low", "below high", self.low)
        check(1 < self.factor_up < float("inf"), "factor_up", "a finite number above 1", self.factor_up)
        check(0 < self.factor_down < 1, "factor_down", "above 0 and below 1", self.factor_down)

    def init(self) -> State:
        return {"lambda": self.value}

    def current(self, state: State) -> float:
        return float(state["lambda"])

    def adapt(self, state: State, scalars: Scalars) -> State:
        lam = self.current(state)
        rho = float(scalars["damping/agreement"]) if scalars["step/accepted"] else float("-inf")
        if rho < self.low:
            lam *= self.factor_up
        elif rho > self.high:
            lam *= self.factor_down
        return {"lambda": min(max(lam, self.smallest), self.largest)}
