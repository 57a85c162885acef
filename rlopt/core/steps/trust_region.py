"""Trust region step: theta + alpha x with 1/2 alpha^2 x^T M x = radius (Kakade 2001; Peters and Schaal 2008).

The step predicts with the metric's own quadratic model and does not measure; see `problem.step_length` for alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlopt.core.checks import positive
from rlopt.core.parts import Scalars, Solution, State, Step, Taken
from rlopt.core.problem import Problem, step_length


@dataclass(frozen=True)
class TrustRegion(Step):
    """theta + alpha x as far as the metric's quadratic model allows: 1/2 alpha^2 x^T M x = radius.

    Options:
        radius: in units of the metric, nats for a Fisher matrix; above 0. sqrt(2 radius) is a length in the metric.
        largest: upper bound on alpha, in units of x; above 0.

    A step that leaves the policy's domain is rejected. Source: Kakade 2001; Peters and Schaal 2008. Raises ValueError
    where an option is out of its range.
    """

    radius: float
    largest: float

    def __post_init__(self) -> None:
        positive("radius", self.radius)
        positive("largest", self.largest)

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        alpha = step_length(solution.quadratic, solution.x, solution.damping, self.radius, self.largest)
        candidate = theta + alpha * solution.x
        accepted = problem.in_domain(candidate)
        scalars: Scalars = {
            "step/size": alpha,
            "step/at_largest": alpha >= self.largest,
            "step/accepted": float(accepted),
            "step/kl_predicted": alpha**2 * solution.quadratic / 2,
            "step/improvement_predicted": alpha * slope,
        }
        return candidate if accepted else theta, state, scalars
