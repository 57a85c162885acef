"""Importance weights: the gradient at another theta, from the samples of the policy that acted.

With the ratios rho_t = p(a_t | s_t; theta) / p(a_t | s_t; theta that acted) of an episode's actions,

    g_w = mean_t score_t sum_l trace^l w_(t + l) delta_(t + l),     score_t = d log p(a_t | s_t; theta) / d theta

    trajectory   w_t = prod_h rho_h, over the whole episode       (Papini et al. 2018, section 4)
    decision     w_t = prod_(h <= t) rho_h                        (Precup et al. 2000; Xu, Gao and Gu 2020)

Advantages are sums of temporal differences delta, A_t = sum_l trace^l delta_(t + l), as those of GAE are with trace =
gamma lambda. Where all w are 1, g_w is the policy gradient mean A score. Both kinds have the expectation of the
gradient that theta's own samples would give, ``decision`` with less variance: no delta is weighed by later actions.

An episode counts from its first step in the batch. Two options trade bias for variance: ``clip`` bounds every w, and
self-normalised weights are divided by their mean over the batch. Where episodes differ in length, a mean over steps is
consistent only with the latter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import check, positive
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.problem import Objective
from rlopt.core.samples import Samples
from rlopt.parallel.collectives import all_sums


@dataclass(frozen=True)
class Weights:
    """Which importance weights. Raises ValueError where an option is out of its range."""

    weights: Literal["trajectory", "decision"]
    clip: float | None  # the largest weight, above 0; None: no bound
    self_normalise: bool  # divide by the weights' mean over the batch

    def __post_init__(self) -> None:
        check(self.weights in ("trajectory", "decision"), "weights", "trajectory or decision", self.weights)
        if self.clip is not None:
            positive("clip", self.clip)

    def of(self, log_ratio: Tensor, samples: Samples, trace: float) -> tuple[Tensor, Tensor]:
        """w (B,), not yet normalised, and advantages (B,), so that w A' score is a sample's part of g_w.

        ``log_ratio`` (B,) are the log rho_t. Samples of weight 0 are no part of an episode and get 0.
        """
        index = samples.weight.nonzero()[:, 0]
        w, advantages = torch.zeros_like(log_ratio), samples.advantages.clone()
        if not len(index):
            return w, advantages
        episodes, row = torch.unique(samples.episode[index], return_inverse=True)
        time = samples.time[index]
        first = time.new_zeros(len(episodes)).scatter_reduce_(0, row, time, "amin", include_self=False)
        at = row, time - first[row]
        shape = len(episodes), int(at[1].max()) + 1
        log_w = log_ratio.new_zeros(shape).index_put_(at, log_ratio[index])
        log_w = log_w.sum(1, keepdim=True).expand(shape) if self.weights == "trajectory" else log_w.cumsum(1)
        if self.clip is not None:
            log_w = log_w.clamp(max=math.log(self.clip))
        if self.weights == "decision":
            known = advantages.new_zeros(shape).index_put_(at, advantages[index])
            advantages[index] = _reweigh(known, log_w, trace)[at]
        w[index] = log_w.exp()[at]
        return w, advantages


def _reweigh(advantages: Tensor, log_w: Tensor, trace: float) -> Tensor:
    """A'_t = sum_l trace^l (w_(t + l) / w_t) delta_(t + l) of the advantages A (N, L) of N episodes; log w (N, L)."""
    following = torch.cat([advantages[:, 1:], torch.zeros_like(advantages[:, :1])], 1)
    delta, found = advantages - trace * following, advantages.clone()
    factor = trace * (log_w[:, 1:] - log_w[:, :-1]).exp()
    for t in reversed(range(advantages.shape[1] - 1)):
        found[:, t] = delta[:, t] + factor[:, t] * found[:, t + 1]
    return found


@dataclass(frozen=True)
class Batch:
    """One batch of the acting policy's samples, and what the gradient at another theta needs besides."""

    network: Network
    head: Head
    objective: Objective
    samples: Samples
    trace: float  # gamma lambda of the advantages

    def gradient_at(self, theta: Tensor, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """g_w (P,) of the objective at theta (P,), over all ranks' samples, and scalars that describe the weights.

        The objective is taken as if theta had acted: with its ratio 1 and no KL divergence.
        """
        samples, share = self.samples, self.samples.share
        tape = self.network.tape(theta, samples.inputs)
        z = tape.outputs
        log_prob = self.head.log_prob(z, samples.actions)
        w, advantages = weights.of(log_prob - samples.old_log_prob, samples, self.trace)
        as_if = samples.replacing(advantages=advantages, old_outputs=z, old_log_prob=log_prob)
        _, dz = self.objective.values_and_gradient(self.head, z, as_if)
        g, mean, squares = all_sums(tape.vjp(dz * (share * w)[:, None]), torch.dot(share, w), torch.dot(share, w * w))
        scalars = {"estimator/weight": mean, "estimator/effective_share": mean * mean / squares}
        return g / mean if weights.self_normalise else g, scalars
