"""LSTD-Q(lambda): least squares temporal differences with compatible features (Peters and Schaal 2008, table 1).

    delta_t = r_t + gamma v . phi(s_{t+1}) - v . phi(s_t) - w . psi_t
    z_t     = gamma lambda z_{t-1} + share_t (phi(s_t), psi_t)               from 0 at the start of every episode
    sum_t z_t delta_t = 0                                                    n + P equations for (v, w)

V enters at the state that was reached, psi only at the pair that was tried, since its mean over actions is 0. After
termination phi = 0; after truncation V of the last state seen stands for what would have followed, and traces end.
Turned around, sum_t share_t (phi, psi)_t (L delta)_t = 0 with (L u)_t = u_t + gamma lambda (L u)_{t+1}, from which v is
eliminated: w satisfies the equations of `regression` with R = (what is left of v's features) o L and y = r.

For lambda = 0 that is w = F^-1 g with F the empirical Fisher matrix and g = sum_t share_t psi_t d_t, whatever the
features; d_t = r_t + gamma V(s_{t+1}) - V(s_t), V by its own v. For lambda > 0 F gains the products psi_t psi_{t+k}^T,
of mean 0: they take out of the lambda-return what the later actions put into it. Where Q lies in the features' span and
nothing but the actions is random, all lambda give the same.

Deviations from the paper: share weighs states (discounted, for the gradient of the discounted return; the paper's are
as visited); the trace decays by gamma lambda, not lambda; statistics are not carried over from batch to batch, since w
belongs to the policy that acted; a ridge on w, see `regression`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import between, non_negative
from rlopt.core.compatible.critic import Estimate, Experience, check_degrees
from rlopt.core.compatible.regression import SampleScores, removed, solve


@dataclass(frozen=True)
class LSTD:
    """w (P,) and v by least squares temporal differences, from single steps with traces.

    Options:
        degrees: of the monomials of the state in phi, different whole numbers, 0 or above; null takes the critic
            network's last hidden layer.
        trace: lambda; between 0 and 1.
        ridge: added to w's block, in units of tr(F) / N with F the empirical Fisher matrix of N samples; 0 or above.

    Source: Peters and Schaal 2008, table 1. Raises ValueError where an option is out of its range, NumericalFailure
    where the equations have no finite solution.
    """

    degrees: tuple[int, ...] | None
    trace: float
    ridge: float

    whole_episodes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_degrees(self.degrees)
        between("trace", self.trace, 0, 1)
        non_negative("ridge", self.ridge)

    def estimate(self, experience: Experience, gamma: float) -> Estimate:
        e, samples = experience, experience.samples
        keep = gamma * self.trace * (~e.done).double()

        def L(u: Tensor) -> Tensor:
            return accumulated(u, keep)

        _, s = e.head.log_prob_and_score(e.tape.outputs, samples.actions)
        share, phi, following = samples.share.double(), e.features.double(), e.following.double()
        rest = removed(phi, L(phi - gamma * following), share)
        w = solve(SampleScores(e.tape, s), share, lambda u: rest(L(u)), e.rewards.flatten().double(), self.ridge)
        w = w.to(s.dtype)
        return Estimate(w, samples.replacing(advantages=(s * e.tape.jvp(w)).sum(1)))


def accumulated(u: Tensor, keep: Tensor) -> Tensor:
    """(L u)_t = u_t + keep_t (L u)_{t+1} for u (T E, m), keep (T, E); a new tensor."""
    y = u.reshape(*keep.shape, -1).clone()
    if keep.any():
        for t in reversed(range(len(y) - 1)):
            torch.addcmul(y[t], keep[t, :, None], y[t + 1], out=y[t])
    return y.view(u.shape)
