"""The linear-quadratic regulator as a Gymnasium environment; see `lqr` for the equations and the closed forms.

Actions are unbounded, so nothing clips them between the policy and the dynamics, and the closed forms hold. An episode
never terminates. It is truncated at the horizon, which should make gamma^horizon small.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlopt.core.checks import at_least_one, check
from rlopt.errors import UserError
from rlopt.tasks.lqr import LQR, Array


class LQREnv(gym.Env[Array, Array]):
    """Observations (n,), the state itself; actions (m,); reward -(s^T Q s + a^T R a) of the state acted in."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # declared as in Gymnasium

    def __init__(self, horizon: int = 200, render_mode: str | None = None, **system: Any):
        """``system``: the arguments of `LQR`. An episode ends after ``horizon`` steps.

        Raises UserError for a value out of range.
        """
        try:
            at_least_one("horizon", horizon)
            check(render_mode is None, "render_mode", "null: there is nothing to see", render_mode)
            self.system = LQR(**system)
        except ValueError as error:
            raise UserError(f"env.kwargs.{error}") from error
        self.horizon, self.render_mode = horizon, render_mode
        matrices = self.system.matrices
        n, m = matrices.B.shape
        self._dynamics = np.hstack([matrices.A, matrices.B])  # of (s, a)
        self._cost = np.block([[matrices.Q, np.zeros((n, m))], [np.zeros((m, n)), matrices.R]])
        self._start = root(matrices.S0)
        self.set_noise_std(np.sqrt(np.diag(matrices.W)))
        self.observation_space = spaces.Box(-np.inf, np.inf, (n,), np.float64)
        self.action_space = spaces.Box(-np.inf, np.inf, (m,), np.float64)

    def set_noise_std(self, noise_std: float | Array) -> None:
        """Another standard deviation of the noise, one number or one for each state, from the next step on."""
        self._noise = np.broadcast_to(np.asarray(noise_std, np.float64), len(self._dynamics)).copy()
        if not (np.isfinite(self._noise) & (self._noise >= 0)).all():
            raise ValueError(f"noise_std must be finite numbers, 0 or above; got {noise_std}")
        self._noisy = bool(self._noise.any())

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._state = self._start @ self.np_random.standard_normal(len(self._start))
        self._time = 0
        return self._state, {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        x = np.concatenate((self._state, action))
        reward = -float(x.dot(self._cost.dot(x)))
        following = self._dynamics.dot(x)
        if self._noisy:
            following = following + self._noise * self.np_random.standard_normal(len(following))
        self._state = following
        self._time += 1
        return following, reward, False, self._time >= self.horizon, {}


def root(covariance: Array) -> Array:
    """L with L L^T = covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    found: Array = vectors * np.sqrt(values.clip(min=0))
    return found
