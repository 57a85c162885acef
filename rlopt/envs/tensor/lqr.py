"""rlopt/LQR-v0: the linear-quadratic regulator; see `rlopt.tasks.lqr` for its closed forms."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rlopt.envs.tensor.task import Task
from rlopt.tasks.lqr import LQR
from rlopt.tasks.lqr_env import root


class LinearQuadratic(Task):
    """s' = A s + B a + noise, reward -(s Q s + a R a) of the state acted in; truncated at the horizon."""

    noise: Literal["uniform", "normal"] = "normal"

    def __init__(self, horizon: int = 200, **system: Any):
        self.limit = horizon
        m = LQR(**system).matrices
        self._given = m.A.T, m.B.T, m.Q, m.R, root(m.S0).T, np.sqrt(np.diag(m.W))
        self.start_size = len(m.A)
        self.step_size = len(m.A) if m.W.any() else 0

    def prepare(self, like: Tensor) -> None:
        self._A, self._B, self._Q, self._R, self._start, self._std = (torch.as_tensor(x).to(like) for x in self._given)

    def start(self, noise: Tensor) -> Tensor:
        return noise @ self._start

    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        cost = ((state @ self._Q) * state).sum(1) + ((actions @ self._R) * actions).sum(1)
        following = state @ self._A + actions @ self._B
        if self.step_size:
            following = following + self._std * noise
        return following, -cost, torch.zeros_like(cost, dtype=torch.bool)
