"""KL clip: the direction shortened to a KL radius, then averaged with the steps before (Wu et al. 2017, ACKTR, eq. 8).

    alpha = min(rate, sqrt(2 radius / max(q, (q + lambda x^T x) / 4))),   q = x^T F x, F the analytic Fisher matrix
    v <- momentum v + (1 - momentum) alpha x,   theta <- theta + v

F is the analytic Fisher matrix whatever the metric, so radius is in nats. The average comes after the clip and is
convex, so no velocity is longer in F than the longest step it averages. The step predicts KL and does not measure it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlopt.core.checks import check, positive
from rlopt.core.parts import Scalars, Solution, State, Step, Taken
from rlopt.core.problem import Problem, step_length


@dataclass(frozen=True)
class KLClip(Step):
    """theta + v, v the running mean of steps alpha x of a predicted KL within ``radius``; the state holds v.

    Options:
        rate: the largest alpha, in units of x; above 0.
        radius: of the predicted KL, nats, mean over states; above 0.
        momentum: weight of the steps before in v; 0 or above and below 1. 0 takes alpha x itself.

    A step that leaves the policy's domain is rejected. Source: Wu et al. 2017, ACKTR, eq. 8. Raises ValueError where an
    option is out of its range.
    """

    rate: float
    radius: float
    momentum: float

    def __post_init__(self) -> None:
        positive("rate", self.rate)
        positive("radius", self.radius)
        check(0 <= self.momentum < 1, "momentum", "0 or above, and below 1", self.momentum)

    def init(self, theta: Tensor) -> State:
        return {"velocity": torch.zeros_like(theta)} if self.momentum else {}

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        x = solution.x
        q = problem.squared_length(x)
        alpha = step_length(q, x, solution.damping, self.radius, self.rate)
        moved = alpha * x
        if self.momentum:
            moved = torch.lerp(moved, state["velocity"], self.momentum)
        candidate = theta + moved
        accepted = problem.in_domain(candidate)
        scalars: Scalars = {
            "step/size": alpha,
            "step/accepted": float(accepted),
            "step/clipped": alpha < self.rate,
            # of alpha x, before the average
            "step/kl_predicted": alpha**2 * q / 2,
            "step/improvement_predicted": alpha * slope,
        }
        if not accepted:
            return theta, state, scalars
        return candidate, {"velocity": moved} if self.momentum else state, scalars
