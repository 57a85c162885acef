"""Returns and advantages on [T, E] rollouts. Truncation is not termination."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    lambda_: float,
    ratio: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) -> advantages, targets, both [T, E].

        delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma lambda (1 - done_t) rho_{t+1} A_{t+1},   targets V(s_t) + rho_t A_t

    All arguments are [T, E], on one device. ``next_values`` are the values of the states that the transitions led to:
    where an episode was truncated, that of its last observation and not of the next episode's first. ``done`` is
    terminated or truncated.

    Without ``ratio`` all rho are 1, and targets are the lambda-return. ``ratio`` is rho for another policy than the one
    that acted: its probability of an action over that of the policy that acted, cut off at some bound. Advantages then
    have lambda in front of the correction, as those of Queeney, Paschalidis and Cassandras (2021); targets are
    V-trace's with c = lambda rho (Espeholt et al. 2018, section 4.1).
    """
    dtype = values.dtype
    deltas = rewards + gamma * next_values * (~terminated).to(dtype) - values
    decay = gamma * lambda_ * (~done).to(dtype)
    if ratio is not None:
        decay[:-1] *= ratio[1:]
    advantages = _summed(deltas, decay)
    return advantages, (advantages if ratio is None else ratio * advantages) + values


def _summed(deltas: Tensor, decay: Tensor) -> Tensor:
    """A_t = delta_t + decay_t A_{t+1}, [T, E] each."""
    advantages = torch.empty_like(deltas)
    d, c, a = (x.numpy() if x.is_cpu else x for x in (deltas, decay, advantages))  # T small arrays: numpy is faster
    following: Any = 0.0
    with np.errstate(all="ignore"):  # the update finds numbers that are not finite
        for t in reversed(range(len(d))):
            a[t] = following = d[t] + c[t] * following
    return advantages
