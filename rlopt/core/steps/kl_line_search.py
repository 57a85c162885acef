"""KL line search: backtrack from the trust region's length until the policy really moved no further than radius
and the objective really improved (Schulman et al. 2015, TRPO, appendix C).

    alpha_0 = min(largest, sqrt(2 radius / max(q, (q + lambda x^T x) / 4))),   q = x^T F x, see `step_length`
    alpha_i = shrink^i alpha_0, the first with  mean KL(start || theta + alpha_i x) <= radius
                                     and improvement > accept_ratio * alpha_i g^T x

F is the analytic Fisher matrix whatever the metric, so radius is in nats. KL and improvement are measured on the whole
batch. If no alpha_i passes, theta stays as it was, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlopt.core.checks import check, non_negative, positive
from rlopt.core.parts import Requirements, Scalars, Solution, State, Step, Taken
from rlopt.core.problem import Problem, step_length
from rlopt.parallel.collectives import all_ranks


@dataclass(frozen=True)
class KLLineSearch(Step):
    """theta + alpha x with the first alpha whose measured KL is within ``radius`` and whose objective is higher.

    Options:
        radius: of the measured KL, nats, mean over states; above 0.
        shrink: from one candidate's alpha to the next; between 0 and 1.
        backtracks: candidates after the first; 0 or above.
        accept_ratio: the share of the predicted improvement that must come true; 0 or above and below 1. 0 asks for
            any improvement.
        largest: upper bound on alpha, in units of x; above 0.

    It measures on the whole batch, so minibatches are refused. Source: Schulman et al. 2015, TRPO, appendix C. Raises
    ValueError where an option is out of its range.
    """

    radius: float
    shrink: float
    backtracks: int
    accept_ratio: float
    largest: float

    requirements: ClassVar[Requirements] = Requirements(whole_batch=True)

    def __post_init__(self) -> None:
        positive("radius", self.radius)
        check(0 < self.shrink < 1, "shrink", "above 0 and below 1", self.shrink)
        non_negative("backtracks", self.backtracks)
        check(0 <= self.accept_ratio < 1, "accept_ratio", "0 or above, and below 1", self.accept_ratio)
        positive("largest", self.largest)

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        x = solution.x
        q = problem.squared_length(x)
        alpha = step_length(q, x, solution.damping, self.radius, self.largest)
        predicted = {"step/kl_predicted": alpha**2 * q / 2, "step/improvement_predicted": alpha * slope}
        for backtracks in range(self.backtracks + 1):
            candidate = theta + alpha * x
            trial = problem.trial(candidate)
            improvement = trial.objective - problem.value
            inside = trial.in_domain & (trial.kl <= self.radius)
            if all_ranks(inside & (improvement > (self.accept_ratio * alpha * slope).clamp(min=0))):
                measured = {"step/improvement_measured": improvement, "step/kl_measured": trial.kl}
                accepted: Scalars = {"step/size": alpha, "step/accepted": 1.0, "step/backtracks": float(backtracks)}
                return candidate, state, {**predicted, **accepted, **measured}
            alpha = alpha * self.shrink
        rejected = {"step/size": 0.0, "step/accepted": 0.0, "step/backtracks": float(self.backtracks)}
        return theta, state, {**predicted, **rejected}
