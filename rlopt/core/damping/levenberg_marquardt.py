"""Levenberg-Marquardt damping: lambda grows where the metric's quadratic model fails and falls where it holds.

    lambda <- factor_up lambda    if rho < low, or the step was rejected
    lambda <- factor_down lambda  if rho > high            (Marquardt 1963; Moré 1978; Martens 2010, section 4.1)

rho compares the model with the step that was taken, see `update`: by the improvement where M models the objective's
curvature, by KL where it models that. Where rho is no number (the model foresaw no gain) lambda stays. Made for steps
of the direction's own length, such as Armijo's or a fixed one with rate 1; a trust region's length makes up for lambda
in part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.checks import check, positive
from rlopt.core.parts import Damping, Scalars, State


@dataclass(frozen=True)
class LevenbergMarquardt(Damping):
    """lambda that rises where the metric's model failed and falls where it held; the state holds lambda.

    Options:
        value: lambda in the first update, in units of M; between smallest and largest.
        low, high: rho below which lambda is raised and above which it is lowered; low below high.
        factor_up: by which lambda is raised; above 1.
        factor_down: by which it is lowered; between 0 and 1.
        smallest, largest: bounds on lambda, in units of M; above 0.

    Source: Marquardt 1963; Moré 1978; Martens 2010, section 4.1. Raises ValueError where an option is out of its range.
    """

    value: float
    low: float
    high: float
    factor_up: float
    factor_down: float
    smallest: float
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
