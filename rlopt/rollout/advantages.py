"""Returns and advantages on [T, E] rollouts. Truncation is not termination."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def gae(
    rewards: Tensor, values: Tensor, next_values: Tensor, terminated: Tensor, done: Tensor, gamma: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16) -> advantages, targets, both [T, E].

        delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma lambda (1 - done_t) A_{t+1}

    All arguments are [T, E], on one device. ``next_values`` are the values of the states that the transitions led to:
    where an episode was truncated, that of its last observation and not of the next episode's first. ``done`` is
    terminated or truncated. Targets are A_t + V(s_t), the lambda-return.
    """
    dtype = values.dtype
    deltas = rewards + gamma * next_values * (~terminated).to(dtype) - values
    advantages = _summed(deltas, gamma * lambda_ * (~done).to(dtype))
    return advantages, advantages + values


def vtrace(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    lambda_: float,
    ratio: Tensor,
) -> tuple[Tensor, Tensor]:
    """Advantages and targets of another policy than the one that acted, V-trace (Espeholt et al. 2018, section 4.1).

        A_t = delta_t + gamma lambda (1 - done_t) rho_{t+1} A_{t+1},   targets V(s_t) + rho_t A_t

    ``ratio`` [T, E] is rho, the other policy's probability of an action over that of the policy that acted, cut off at
    some bound; the other arguments are those of `gae`, whose result this is where all rho are 1.
    """
    dtype = values.dtype
    deltas = rewards + gamma * next_values * (~terminated).to(dtype) - values
    decay = gamma * lambda_ * (~done).to(dtype)
    decay[:-1] *= ratio[1:]
    advantages = _summed(deltas, decay)
    return advantages, ratio * advantages + values


def _summed(deltas: Tensor, decay: Tensor) -> Tensor:
    """A_t = delta_t + decay_t A_{t+1}, [T, E] each."""
    advantages = torch.empty_like(deltas)
    d, c, a = (x.numpy() if x.is_cpu else x for x in (deltas, decay, advantages))  # T small arrays: numpy is faster
    following: Any = 0.0
    with np.errstate(all="ignore"):  # the update finds numbers that are not finite
        for t in reversed(range(len(d))):
            a[t] = following = d[t] + c[t] * following
    return advantages
