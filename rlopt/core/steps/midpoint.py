"""Midpoint step: the natural gradient flow by the midpoint rule, with one more solve (Song, Song and Ermon 2018).

    theta_mid = theta + alpha / 2 x(theta),   theta <- theta + alpha x(theta_mid),   x = (M + lambda I)^-1 g

The path d theta / dt = M^-1 g of a natural gradient does not depend on how the policy is parametrised. Euler's rule,
theta + alpha x(theta), leaves it by O(alpha^2) a step, which differs between parametrisations; the midpoint rule by
O(alpha^3). So after a given time two parametrisations are O(alpha) and O(alpha^2) apart.

    alpha = min(rate, sqrt(2 radius / max(q, (q + lambda x^T x) / 4))),   q = x^T F x at theta

as in `kl_clip`, which depends on the distribution alone too. Objective, metric and solver see the same samples and
states at theta_mid as at theta; what they remember is that of theta.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlopt.core.checks import positive
from rlopt.core.parts import Requirements, Scalars, Solution, State, Step, Taken
from rlopt.core.problem import Problem, step_length


@dataclass(frozen=True)
class Midpoint(Step):
    """theta + alpha x_mid, x_mid the direction at theta + alpha / 2 x, with alpha of a predicted KL within ``radius``.

    Options:
        rate: the largest alpha, in units of x; above 0.
        radius: of the KL that x predicts, nats, mean over states; above 0.

    A step is rejected where it or its midpoint leaves the policy's domain, or the midpoint has no finite direction.
    Source: Song, Song and Ermon 2018. Raises ValueError where an option is out of its range.
    """

    rate: float
    radius: float

    requirements: ClassVar[Requirements] = Requirements(solves_again=True)

    def __post_init__(self) -> None:
        positive("rate", self.rate)
        positive("radius", self.radius)

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        x = solution.x
        alpha = step_length(problem.squared_length(x), x, solution.damping, self.radius, self.rate)
        midway = theta + alpha / 2 * x
        found = problem.solve_at(midway) if problem.in_domain(midway) else None
        if found is None:
            return theta, state, {"step/size": 0.0, "step/accepted": 0.0, "step/clipped": alpha < self.rate}
        candidate = theta + alpha * found
        accepted = problem.in_domain(candidate)
        scalars: Scalars = {
            "step/size": alpha,
            "step/accepted": float(accepted),
            "step/clipped": alpha < self.rate,
            "step/bend": (found - x).norm() / x.norm(),
            "step/kl_predicted": alpha**2 * problem.squared_length(found) / 2,
            "step/improvement_predicted": alpha * slope,
        }
        return candidate if accepted else theta, state, scalars
