"""The linear-quadratic regulator under a linear Gaussian policy, in closed form.

    s' = A s + B a + e,   a ~ N(K s, diag(sigma^2)),   e ~ N(0, W),   s_0 ~ N(0, S0),   r = -(s^T Q s + a^T R a)

With M = A + B K, stable when gamma rho(M)^2 < 1, and N = B diag(sigma^2) B^T + W the noise that enters the state:

    P = Q + K^T R K + gamma M^T P M              the value is V(s) = -s^T P s + const
    X = S0 + gamma N / (1 - gamma) + gamma M X M^T                  sum_t gamma^t E[s s^T]
    J = -[tr(P S0) + (tr(R diag(sigma^2)) + gamma tr(P N)) / (1 - gamma)]
    dJ/dK       = -2 (R K + gamma B^T P M) X
    dJ/dsigma_i = -2 sigma_i (R + gamma B^T P B)_ii / (1 - gamma)
    F           = diag(1 / sigma^2) (x) X for K,   2 / (sigma_i^2 (1 - gamma)) for sigma_i
    F^-1 dJ     = -2 diag(sigma^2) (R K + gamma B^T P M) for K,   -sigma_i^3 (R + gamma B^T P B)_ii for sigma_i

Kakade, A Natural Policy Gradient (2001); Peters and Schaal, Natural Actor-Critic (2008), Fig. 1, whose system is the
scalar one with Q = R = 1. dJ/dK is proportional to X and so, where exploration alone moves the state (S0 = W = 0), to
sigma^2; the natural gradient has no X in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rlopt.core.checks import check
from rlopt.errors import UserError, needs_extra

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LQR:
    """The system, with the closed forms of its return, gradients and optimum.

    If all matrices are given as numbers and ``dimension`` is None, the system is scalar: k and sigma are numbers, or
    arrays (...) that broadcast, and P = 2. Otherwise a number is that multiple of the identity, k is (..., m, n), sigma
    a number or (..., m), and P = m n + m: k row by row, then sigma, as in rlopt's theta. Where the closed loop is
    unstable, J is -inf and everything else is nan. Raises ValueError for values out of range.
    """

    A: ArrayLike = 1.0  # (n, n)
    B: ArrayLike = 1.0  # (n, m)
    Q: ArrayLike = 1.0  # (n, n), symmetric, positive semidefinite
    R: ArrayLike = 1.0  # (m, m), symmetric, positive definite
    gamma: float = 0.95  # above 0, below 1
    start_variance: ArrayLike = 0.0  # S0 (n, n), or a number times the identity
    noise_std: ArrayLike = 0.0  # of each component of e: W = diag(noise_std^2); a number or (n,)
    dimension: int | None = None  # n, where A and B are numbers

    def __post_init__(self) -> None:
        check(0 < self.gamma < 1, "gamma", "above 0 and below 1", self.gamma)
        _ = self.matrices

    @cached_property
    def scalar(self) -> bool:
        given = (self.A, self.B, self.Q, self.R, self.start_variance, self.noise_std)
        return self.dimension is None and all(np.ndim(value) == 0 for value in given)

    @cached_property
    def matrices(self) -> Matrices:
        """The system as matrices, after all checks."""
        n, m = _sizes(self.A, self.B, self.dimension)
        std = np.asarray(self.noise_std, float)
        check(std.shape in ((), (n,)), "noise_std", f"a number or {n} of them", self.noise_std)
        check(bool(np.all(np.isfinite(std) & (std >= 0))), "noise_std", "finite, 0 or above", self.noise_std)
        return Matrices(
            A=_matrix("A", self.A, n, n),
            B=_matrix("B", self.B, n, m),
            Q=_semidefinite("Q", self.Q, n),
            R=_semidefinite("R", self.R, m, definite=True),
            S0=_semidefinite("start_variance", self.start_variance, n),
            W=np.diag(np.broadcast_to(std, (n,)) ** 2),
        )

    def stable(self, k: ArrayLike) -> NDArray[np.bool_]:
        """(...) True where gamma rho(A + B k)^2 < 1, so that J is finite."""
        return self._closed_loop(k, 1.0).stable

    def J(self, k: ArrayLike, sigma: ArrayLike) -> Any:
        """(...) the expected discounted return; a float for a single k and sigma."""
        loop, s = self._closed_loop(k, sigma), self.matrices
        by_action = (np.einsum("ai,...ab,bi->...i", s.B, loop.P, s.B) * loop.v).sum(-1)
        noise = np.einsum("...ij,ij->...", loop.P, s.W) + by_action
        running = ((np.diag(s.R) * loop.v).sum(-1) + self.gamma * noise) / (1 - self.gamma)
        value = np.where(loop.stable, -(np.einsum("...ij,ij->...", loop.P, s.S0) + running), -np.inf)
        return float(value) if value.ndim == 0 else value

    def gradient(self, k: ArrayLike, sigma: ArrayLike, scale: str = "sigma", uniform_over: int | None = None) -> Array:
        """(..., P) of J in theta = (k, sigma), or (k, log sigma) with ``scale="log_sigma"``.

        With ``uniform_over`` = T it is the result of uniform state weighting, a mean over T steps: X is the time-mean
        of E[s s^T], and 1 replaces 1 / (1 - gamma). This is not the gradient of any function.
        """
        loop = self._closed_loop(k, sigma)
        X, total = self._states(loop, uniform_over)
        by_k, by_sigma = self._improvement(loop)
        chain = loop.sigma if _is_log(scale) else 1.0
        return _join(-2 * by_k @ X, -2 * loop.sigma * by_sigma * chain * total, loop.stable)

    def fisher(self, k: ArrayLike, sigma: ArrayLike, scale: str = "sigma", uniform_over: int | None = None) -> Array:
        """(..., P, P) Fisher information of the policy, summed over discounted states; arguments as in `gradient`."""
        loop = self._closed_loop(k, sigma)
        check(bool(np.all(loop.v > 0)), "sigma", "above 0", sigma)
        X, total = self._states(loop, uniform_over)
        m, n = loop.K.shape[-2:]
        F = np.zeros((*loop.stable.shape, m * n + m, m * n + m))
        for i in range(m):
            block = slice(i * n, (i + 1) * n)
            F[..., block, block] = X / loop.v[..., i, None, None]
            F[..., m * n + i, m * n + i] = total * 2 / (1.0 if _is_log(scale) else loop.v[..., i])
        return np.where(loop.stable[..., None, None], F, np.nan)

    def natural_gradient(self, k: ArrayLike, sigma: ArrayLike, scale: str = "sigma") -> Array:
        """(..., P) F^-1 dJ. X and 1 / (1 - gamma) cancel, so state weighting does not change it."""
        loop = self._closed_loop(k, sigma)
        by_k, by_sigma = self._improvement(loop)
        chain = 1.0 if _is_log(scale) else loop.sigma
        return _join(-2 * loop.v[..., :, None] * by_k, -loop.v * by_sigma * chain, loop.stable)

    def optimum(self) -> Any:
        """k*, which is the same for every sigma: a float for a scalar system, else (m, n). J is largest at sigma = 0.

        k* = -(R + gamma B^T P B)^-1 gamma B^T P A with P from the discrete Riccati equation of (sqrt(gamma) A,
        sqrt(gamma) B). Raises UserError without scipy.
        """
        try:
            from scipy.linalg import solve_discrete_are
        except ImportError as error:
            raise UserError(needs_extra("the optimum of an LQR needs scipy", "plot")) from error
        s, g = self.matrices, self.gamma
        P = solve_discrete_are(g**0.5 * s.A, g**0.5 * s.B, s.Q, s.R)
        K = -np.linalg.solve(s.R + g * s.B.T @ P @ s.B, g * s.B.T @ P @ s.A)
        return float(K[0, 0]) if self.scalar else K

    def _closed_loop(self, k: ArrayLike, sigma: ArrayLike) -> _ClosedLoop:
        """M, and P from a linear system in its n^2 entries, at a policy."""
        s, g = self.matrices, self.gamma
        n, m = s.B.shape
        K, std = np.asarray(k, float), np.asarray(sigma, float)
        if self.scalar:
            K, std = K[..., None, None], std[..., None]
        check(K.shape[-2:] == (m, n), "k", f"of shape (..., {m}, {n})", f"shape {K.shape}")
        check(std.ndim == 0 or std.shape[-1] == m, "sigma", f"a number, or (..., {m})", f"shape {std.shape}")
        check(bool(np.all(std >= 0)), "sigma", "0 or above", sigma)
        batch = np.broadcast_shapes(K.shape[:-2], std.shape[:-1])
        K, std = np.broadcast_to(K, (*batch, m, n)), np.broadcast_to(std, (*batch, m))
        M = s.A + s.B @ K
        stable = g * np.abs(np.linalg.eigvals(M)).max(-1) ** 2 < 1
        pairs = np.einsum("...ai,...bj->...ijab", M, M).reshape(*batch, n * n, n * n)  # vec P -> vec M^T P M
        system = np.eye(n * n) - g * np.where(stable[..., None, None], pairs, 0)
        cost = (s.Q + K.swapaxes(-1, -2) @ s.R @ K).reshape(*batch, n * n, 1)
        P = np.linalg.solve(system, cost).reshape(*batch, n, n)
        return _ClosedLoop(K, std, std**2, M, stable, system, P)

    def _improvement(self, loop: _ClosedLoop) -> tuple[Array, Array]:
        """R K + gamma B^T P M (..., m, n), and the diagonal of R + gamma B^T P B (..., m)."""
        s, g = self.matrices, self.gamma
        by_sigma = np.einsum("...ii->...i", s.R + g * s.B.T @ loop.P @ s.B)
        return s.R @ loop.K + g * s.B.T @ loop.P @ loop.M, by_sigma

    def _states(self, loop: _ClosedLoop, uniform_over: int | None) -> tuple[Array, float]:
        """X (..., n, n) and the sum of the weights: over discounted time, or means over ``uniform_over`` steps."""
        s, g = self.matrices, self.gamma
        N = (s.B * loop.v[..., None, :]) @ s.B.T + s.W
        if uniform_over is not None:
            S: Array = np.broadcast_to(s.S0, loop.M.shape)
            mean: Array = np.zeros(loop.M.shape)
            for _ in range(uniform_over):
                mean += S / uniform_over
                S = np.matmul(loop.M @ S, loop.M.swapaxes(-1, -2)) + N
            return mean, 1.0
        source = (s.S0 + g * N / (1 - g)).reshape(*loop.stable.shape, -1, 1)
        X: Any = np.linalg.solve(loop.system.swapaxes(-1, -2), source)
        return X.reshape(loop.M.shape), 1 / (1 - g)


class Matrices(NamedTuple):
    """The matrices of the system, of the first state and of the noise."""

    A: Array
    B: Array
    Q: Array
    R: Array
    S0: Array
    W: Array


class _ClosedLoop(NamedTuple):
    """The system under one policy, or a batch (...) of policies."""

    K: Array  # (..., m, n)
    sigma: Array  # (..., m)
    v: Array  # sigma^2
    M: Array  # (..., n, n)
    stable: Any  # (...) bool
    system: Array  # (..., n^2, n^2), I - gamma M^T (x) M^T
    P: Array  # (..., n, n)


def _is_log(scale: str) -> bool:
    check(scale in ("sigma", "log_sigma"), "scale", "sigma or log_sigma", scale)
    return scale == "log_sigma"


def _join(by_k: Array, by_sigma: Array, stable: Any) -> Array:
    joined = np.concatenate([by_k.reshape(*stable.shape, -1), by_sigma], -1)
    return np.where(stable[..., None], joined, np.nan)


def _sizes(A: ArrayLike, B: ArrayLike, dimension: int | None) -> tuple[int, int]:
    """n and m."""
    shapes = [np.shape(A)[:1], np.shape(B)[:1], () if dimension is None else (int(dimension),)]
    found = {shape[0] for shape in shapes if shape}
    check(len(found) <= 1, "A, B and dimension", "of one size", f"A {np.shape(A)}, B {np.shape(B)}, {dimension}")
    n = found.pop() if found else 1
    check(n >= 1, "dimension", "a whole number, 1 or above", n)
    return n, np.shape(B)[1] if np.ndim(B) == 2 else n


def _matrix(name: str, value: ArrayLike, rows: int, columns: int) -> Array:
    """``value`` as a matrix; a number is that multiple of the identity."""
    array = np.asarray(value, float)
    matrix = array * np.eye(rows, columns) if array.ndim == 0 and rows == columns else array
    check(matrix.shape == (rows, columns), name, f"a number or a matrix of shape ({rows}, {columns})", value)
    check(bool(np.isfinite(matrix).all()), name, "finite", value)
    return matrix


def _semidefinite(name: str, value: ArrayLike, size: int, definite: bool = False) -> Array:
    matrix = _matrix(name, value, size, size)
    least = np.linalg.eigvalsh(matrix).min()
    holds = np.allclose(matrix, matrix.T) and (least > 0 if definite else least >= -1e-12)
    check(bool(holds), name, f"symmetric and positive {'' if definite else 'semi'}definite", value)
    return matrix
