"""SVRPG: the gradient at a snapshot from many samples, corrected by few (Papini et al. 2018, algorithm 2).

    mu = mean of g(theta_s) over the first n batches                    theta stays at the snapshot theta_s
    v  = mu + g(theta) - g_w(theta_s)                                    on every further batch, of theta's samples

g_w(theta_s) is the gradient at the snapshot from the samples of theta, weighed as in rlopt/core/importance.py, so that
the last two terms have the expectation grad J(theta) - grad J(theta_s), and v that of the plain gradient. Near the
snapshot the two go up and down together, and v has less variance than g. Far from it the weights undo that, which is
why the snapshot is taken anew after m steps. It is SVRG (Johnson and Zhang 2013) with a sampled mean for the full one.

The paper's first step of an epoch draws a batch at theta_s, where its correction is 0. Here it is v = mu at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.checks import at_least_one
from rlopt.core.importance import Batch, Weights
from rlopt.core.parts import Estimate, Estimator, Requirements, State


@dataclass(frozen=True)
class SVRPG(Estimator):
    """v = mu + g(theta) - g_w(snapshot); the state holds the snapshot (P,), mu (P,) and two counters.

    Options:
        batches: n, whose mean gradient is the snapshot's; theta stays until they are there; 1 or above.
        period: m, steps taken for each snapshot, the first of them along mu; 1 or above.
        weights: trajectory or decision.
        clip: the largest importance weight, above 0; null for no bound.
        self_normalise: divide the weights by their mean over the batch.

    Source: Papini, Binaghi, Canonaco, Pirotta and Restelli 2018, Stochastic variance-reduced policy gradient. Raises
    ValueError where an option is out of its range.
    """

    batches: int
    period: int
    weights: Literal["trajectory", "decision"]
    clip: float | None
    self_normalise: bool

    reduces: ClassVar[bool] = True
    requirements: ClassVar[Requirements] = Requirements(whole_batch=True, first_step_only=True)

    def __post_init__(self) -> None:
        at_least_one("batches", self.batches)
        at_least_one("period", self.period)
        Weights(self.weights, self.clip, self.self_normalise)

    def estimate(self, state: State, theta: Tensor, g: Tensor, batch: Batch) -> Estimate:
        if not state or state["steps"] >= self.period:
            return average_batches({}, theta, g, self.batches)
        if state["batches"] < self.batches:
            return average_batches(state, theta, g, self.batches)
        old, scalars = batch.gradient_at(state["theta"], Weights(self.weights, self.clip, self.self_normalise))
        return Estimate(state["gradient"] + g - old, {**state, "steps": state["steps"] + 1}, scalars)


def average_batches(state: State, theta: Tensor, g: Tensor, batches: int) -> Estimate:
    """The state with one batch more in the mean gradient at theta (P,), which is the estimate once all are there."""
    count = state.get("batches", 0) + 1
    mean = g if count == 1 else state["gradient"] + (g - state["gradient"]) / count
    done = count == batches
    found = {"theta": theta.clone(), "gradient": mean, "batches": count, "steps": int(done)}
    return Estimate(mean if done else None, found)
