"""Armijo line search: backtrack until the objective rises in proportion to its slope (Armijo 1966).

    alpha_i = shrink^i rate, the first with   improvement >= c alpha_i g^T x

measured on the whole batch. If no alpha_i passes, or x does not point uphill, theta stays as it was, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlopt.core.checks import check, non_negative, positive
from rlopt.core.parts import Requirements, Scalars, Solution, State, Step, Taken
from rlopt.core.problem import Problem
from rlopt.parallel.collectives import all_ranks


@dataclass(frozen=True)
class Armijo(Step):
    """theta + alpha x with the first alpha of a falling sequence at which the objective rose enough.

    Options:
        rate: alpha_0, in units of x; above 0. 1 is the solver's own length.
        shrink: from one candidate's alpha to the next; between 0 and 1.
        backtracks: candidates after the first; 0 or above.
        c: the share of alpha g^T x that the objective must gain; between 0 and 1.

    It measures on the whole batch, so minibatches are refused. Source: Armijo 1966. Raises ValueError where an option
    is out of its range.
    """

    rate: float
    shrink: float
    backtracks: int
    c: float

    requirements: ClassVar[Requirements] = Requirements(whole_batch=True)

    def __post_init__(self) -> None:
        positive("rate", self.rate)
        check(0 < self.shrink < 1, "shrink", "above 0 and below 1", self.shrink)
        non_negative("backtracks", self.backtracks)
        check(0 < self.c < 1, "c", "above 0 and below 1", self.c)

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        alpha = self.rate
        candidates = self.backtracks + 1 if all_ranks(slope > 0) else 0
        for backtracks in range(candidates):
            candidate = theta + alpha * solution.x
            trial = problem.trial(candidate)
            improvement = trial.objective - problem.value
            if all_ranks(trial.in_domain & (improvement >= self.c * alpha * slope)):
                scalars: Scalars = {
                    "step/size": alpha,
                    "step/accepted": 1.0,
                    "step/backtracks": float(backtracks),
                    "step/improvement_predicted": alpha * slope,
                    "step/improvement_measured": improvement,
                    "step/kl_measured": trial.kl,
                }
                return candidate, state, scalars
            alpha *= self.shrink
        return theta, state, {"step/size": 0.0, "step/accepted": 0.0, "step/backtracks": float(max(candidates - 1, 0))}
