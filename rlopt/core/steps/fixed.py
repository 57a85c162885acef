"""Fixed step: theta + rate x."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlopt.core.checks import positive
from rlopt.core.parts import Scalars, Solution, State, Step, Taken
from rlopt.core.problem import Problem


@dataclass(frozen=True)
class Fixed(Step):
    """theta + rate x, unless that leaves the policy's domain: then the step is rejected.

    Options:
        rate: alpha, in units of x; above 0.

    Raises ValueError where it is out of its range.
    """

    rate: float

    def __post_init__(self) -> None:
        positive("rate", self.rate)

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        candidate = theta + self.rate * solution.x
        accepted = problem.in_domain(candidate)
        scalars: Scalars = {
            "step/size": self.rate,
            "step/accepted": float(accepted),
            "step/improvement_predicted": self.rate * slope,
        }
        return candidate if accepted else theta, state, scalars
