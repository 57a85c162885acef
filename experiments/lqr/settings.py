"""What is run: two systems, two parameters for the scale, three methods, and the steps they take.

The scalar system s' = A s + B a, a ~ N(k s, sigma^2), r = -(s^2 + a^2), discounted, started at s = 0 and without noise
of its own: only exploration moves the state (Peters and Schaal, Natural Actor-Critic (2008), Fig. 1; Xingyu Lin,
Natural Gradient Descent, CMU 10-703 recitation (2019)). The original names neither A, B, gamma nor the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rlopt.tasks.lqr import LQR

METHODS = ("vanilla", "natural", "trpo")
FLOOR = 0.01  # a path ends where sigma falls below this: exploration has died
HORIZON = 200  # steps per episode


@dataclass(frozen=True)
class Setting:
    """One system with theta = (k, sigma) or (k, log sigma)."""

    name: str
    title: str
    system: LQR
    scale: str  # sigma | log_sigma
    length: float  # Euclidean length in theta of vanilla's step, for about as many updates as the others need
    radius: float  # nats per update, natural gradient and TRPO
    starts: tuple[tuple[float, float], ...]  # (k, sigma); the first is the one that is repeated over seeds
    envs: int  # episodes per update

    @property
    def start(self) -> tuple[float, float]:
        return self.starts[0]

    @property
    def log(self) -> bool:
        return self.scale == "log_sigma"

    @property
    def axis(self) -> str:
        """The scale's coordinate, for labels."""
        return "log σ" if self.log else "σ"

    def theta(self, k: float, sigma: float) -> np.ndarray:
        """(2,) coordinates of a policy."""
        return np.array([k, np.log(sigma) if self.log else sigma])

    def policy(self, theta: np.ndarray) -> tuple[float, float]:
        """(k, sigma) at coordinates theta (2,)."""
        return float(theta[0]), float(np.exp(theta[1]) if self.log else theta[1])

    def mean_action_return(self, k: np.ndarray) -> np.ndarray:
        """Return from s = 1 when the mean action is taken: what k is worth once exploration is over."""
        return replace(self.system, start_variance=1.0).J(k, 0.0)


def settings(quick: bool = False) -> list[Setting]:
    """A = B = 1, and the system whose optimum is k = -1, each in sigma and in log sigma.

    ``quick``: one start, fewer episodes and steps of twice the length.
    """
    systems = {
        "unit": (1.0, ((-0.2, 0.5), (-0.2, 0.9), (-1.1, 0.4), (-1.1, 0.9), (-1.8, 0.4), (-1.8, 0.9))),
        "minus_one": (
            float(np.sqrt(1 + 1 / 0.95)),
            ((-0.6, 0.5), (-0.6, 0.9), (-1.3, 0.4), (-1.3, 0.9), (-1.9, 0.4), (-1.9, 0.9)),
        ),
    }
    found = []
    for name, (A, starts) in systems.items():
        for scale, length in (("sigma", 0.01), ("log_sigma", 0.08)):
            system = LQR(A=A, gamma=0.95)
            title = f"A = {A:.4g}, B = Q = R = 1, γ = 0.95, k* = {system.optimum():.4g}"
            envs = 32 if (name, scale) == ("unit", "sigma") else 16
            setting = Setting(f"{name}-{scale}", title, system, scale, length, 0.01, starts, envs)
            short = replace(setting, length=2 * length, radius=0.04, starts=starts[:1], envs=8)
            found.append(short if quick else setting)
    return found
