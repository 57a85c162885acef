"""Paths of learning from the closed forms alone: no sampling, so that what is left is the geometry.

flow    theta + length x / |x|, x the gradient or the natural gradient: the curve an arrow field draws
climb   the trainer's own steps on exact quantities, F and g per step of discounted time (times 1 - gamma):
        vanilla  a fixed Euclidean length;   natural  alpha = sqrt(2 radius / x^T F x)
        trpo     the same alpha, shrunk until KL <= radius and the surrogate improves
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from experiments.lqr.settings import FLOOR, Setting
from rlopt.tasks.lqr import LQR

SHRINK, BACKTRACKS = 0.8, 10  # as in conf/step/kl_line_search.yaml
Policy = tuple[float, float]


def kl(system: LQR, old: Policy, new: Policy) -> float:
    """Mean KL(old || new) over the discounted states of old, nats."""
    (k, sigma), (k_new, sigma_new) = old, new
    moved = (k_new - k) ** 2 * sigma**2 * system.fisher(k, sigma)[0, 0] * (1 - system.gamma)
    return float(np.log(sigma_new / sigma) + (sigma**2 + moved) / (2 * sigma_new**2) - 0.5)


def surrogate(system: LQR, old: Policy, new: Policy) -> float:
    """E over the discounted states of old of the advantage, under old, of acting by new; per step.

    With H = R + gamma P B^2 and G = gamma P A B the action value is -(H a^2 + 2 G a s) + a function of the state.
    """
    (k, sigma), (k_new, sigma_new), g, s = old, new, system.gamma, system.matrices
    states = sigma**2 * system.fisher(k, sigma)[0, 0] * (1 - g)
    A, B, Q, R = (float(x[0, 0]) for x in (s.A, s.B, s.Q, s.R))
    P = (Q + R * k**2) / (1 - g * (A + B * k) ** 2)
    H, G = R + g * P * B**2, g * P * A * B
    return -(H * ((k_new**2 - k**2) * states + sigma_new**2 - sigma**2) + 2 * G * (k_new - k) * states)


def flow(setting: Setting, method: str, start: Policy, length: float = 0.005) -> np.ndarray:
    """(N, 2) of (k, sigma), the last with sigma below the floor."""
    direction = setting.system.gradient if method == "vanilla" else setting.system.natural_gradient

    def step(theta: np.ndarray, policy: Policy) -> np.ndarray:
        x = direction(*policy, setting.scale)
        return theta + length * x / np.linalg.norm(x)

    return _path(setting, start, step)


def climb(setting: Setting, method: str, start: Policy) -> np.ndarray:
    """(N, 2) of (k, sigma), with the step rule of the trainer."""
    system, scale = setting.system, setting.scale

    def step(theta: np.ndarray, policy: Policy) -> np.ndarray:
        if method == "vanilla":
            x = system.gradient(*policy, scale)
            return theta + setting.length * x / np.linalg.norm(x)
        x = system.natural_gradient(*policy, scale)
        F = (1 - system.gamma) * system.fisher(*policy, scale)
        alpha = np.sqrt(2 * setting.radius / (x @ F @ x))
        if method == "natural":
            return theta + alpha * x
        for _ in range(BACKTRACKS + 1):
            new = setting.policy(theta + alpha * x)
            if new[1] > 0 and kl(system, policy, new) <= setting.radius and surrogate(system, policy, new) > 0:
                return theta + alpha * x
            alpha *= SHRINK
        return theta

    return _path(setting, start, step)


def _path(setting: Setting, start: Policy, step: Callable[[np.ndarray, Policy], np.ndarray]) -> np.ndarray:
    theta, path = setting.theta(*start), [start]
    while path[-1][1] >= FLOOR:
        following = step(theta, path[-1])
        policy = setting.policy(following)
        if policy[1] <= 0 or not setting.system.stable(policy[0]) or np.array_equal(following, theta):
            break
        theta = following
        path.append(policy)
    return np.array(path)


def mean_cosines(system: LQR) -> dict[str, float]:
    """Mean cosine between an arrow and the direction of the optimum (k*, 0), over a grid of theta = (k, sigma)."""
    k, sigma = np.meshgrid(np.linspace(-1.9, -0.1, 37), np.linspace(0.05, 1, 20))
    A, B = system.matrices.A[0, 0], system.matrices.B[0, 0]
    inside = system.gamma * (A + B * k) ** 2 < 0.98
    target = np.stack([system.optimum() - k, -sigma], -1)
    cosines = {}
    for name, x in (("vanilla", system.gradient(k, sigma)), ("natural", system.natural_gradient(k, sigma))):
        with np.errstate(invalid="ignore"):
            cosine = (x * target).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(target, axis=-1)
        cosines[name] = float(cosine[inside].mean())
    return cosines
