"""Recursive estimator: the last direction, corrected by the change of the gradient (SRVR-PG; STORM-PG).

    v_0 = mean of g(theta_0) over the first n batches                           theta stays until they are there
    v_t = g(theta_t) + (1 - a) (v_(t - 1) - g_w(theta_(t - 1)))                  on one batch of theta_t's samples

    a = 0       SRVR-PG (Xu, Gao and Gu 2020): errors add up, so v is begun anew after m steps
    0 < a < 1   STORM-PG (Yuan et al. 2020): errors fade, so v may go on for ever, and all batches are alike
    a = 1       the plain gradient

g_w(theta_(t - 1)) is the gradient at the theta before, from the samples of theta_t, weighed as in
rlopt/core/importance.py: v_t has the expectation of g(theta_t) if v_(t - 1) has that of g(theta_(t - 1)). The weights
compare policies one step apart, where SVRPG's are up to m steps apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.checks import at_least_one, between
from rlopt.core.estimators.svrpg import average_batches
from rlopt.core.importance import Batch, Weights
from rlopt.core.parts import Estimate, Estimator, Requirements, State


@dataclass(frozen=True)
class Recursive(Estimator):
    """v_t = g + (1 - a) (v_(t - 1) - g_w); the state holds theta_(t - 1) (P,), v_(t - 1) (P,) and two counters.

    Options:
        fresh: a, the weight of the batch's own gradient, from 0 to 1.
        batches: n, whose mean gradient v begins with; theta stays until they are there; 1 or above.
        period: m, steps after which v is begun anew, 1 or above; null for never.
        weights: trajectory or decision.
        clip: the largest importance weight, above 0; null for no bound.
        self_normalise: divide the weights by their mean over the batch.

    Source: Xu, Gao and Gu 2020, Sample efficient policy gradient methods with recursive variance reduction; Yuan, Lian,
    Liu and Zhou 2020, Stochastic recursive momentum for policy gradient methods. Raises ValueError where an option is
    out of its range.
    """

    fresh: float
    batches: int
    period: int | None
    weights: Literal["trajectory", "decision"]
    clip: float | None
    self_normalise: bool

    reduces: ClassVar[bool] = True
    requirements: ClassVar[Requirements] = Requirements(whole_batch=True, first_step_only=True)

    def __post_init__(self) -> None:
        between("fresh", self.fresh, 0, 1)
        at_least_one("batches", self.batches)
        if self.period is not None:
            at_least_one("period", self.period)
        Weights(self.weights, self.clip, self.self_normalise)

    def estimate(self, state: State, theta: Tensor, g: Tensor, batch: Batch) -> Estimate:
        if not state or (self.period is not None and state["steps"] >= self.period):
            return average_batches({}, theta, g, self.batches)
        if state["batches"] < self.batches:
            return average_batches(state, theta, g, self.batches)
        old, scalars = batch.gradient_at(state["theta"], Weights(self.weights, self.clip, self.self_normalise))
        v = g + (1 - self.fresh) * (state["gradient"] - old)
        return Estimate(v, {**state, "theta": theta.clone(), "gradient": v, "steps": state["steps"] + 1}, scalars)
