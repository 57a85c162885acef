"""The landscapes: f(theta) = 1/2 |r(theta)|^2, or f itself, as problems of rlopt's core.

A landscape of residuals is a regression to zero: its "samples" are the residuals, its outputs z_b = sqrt(B) r_b, so
that minus the mean log-likelihood of the value head is f but for a constant. Then the metric hessian is f's Hessian,
gauss_newton and fisher are J^T J. Where r is linear, the network is one Linear layer and K-FAC has a layer to work on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.objectives.value import Value
from rlopt.core.parts import Objective, Requirements
from rlopt.core.samples import Samples

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lowered:
    """Objective -z: its network's one output is f itself."""

    serves: ClassVar[Literal["policy", "critic"]] = "critic"
    requirements: ClassVar[Requirements] = Requirements()

    def values(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        return -z.squeeze(1)

    def values_and_gradient(self, head: Head, z: Tensor, samples: Samples) -> tuple[Tensor, Tensor]:
        return -z.squeeze(1), torch.full_like(z, -1.0)

    def hessian(self, head: Head, z: Tensor, samples: Samples) -> Tensor:
        return z.new_zeros(len(z), 1, 1)


@dataclass(frozen=True)
class Landscape:
    """f with a place to start; ``network``, ``head``, ``objective`` and ``samples`` are f for rlopt's core."""

    name: str
    title: str
    f: Function  # theta (P,) -> ()
    start: Tensor  # (P,)
    lowest: float  # f at its minimum
    network: Network
    head: Head
    objective: Objective
    samples: Samples
    bounds: tuple[float, float] | None = None  # mu and L, where f is quadratic
    layered: bool = False  # K-FAC has layers to work on

    def error(self, theta: Tensor) -> float:
        """f(theta) - f*."""
        return float(self.f(theta)) - self.lowest

    def at(self, start: Tensor) -> Landscape:
        return replace(self, start=start)


class Formula(nn.Module):
    """z = r(R p) for a function r: (P,) -> (B,); the inputs say nothing but which of the B outputs are meant."""

    def __init__(self, r: Function, start: Tensor, R: Tensor | None = None):
        super().__init__()
        self.p, self.r, self.R = nn.Parameter(start.clone()), r, R

    def forward(self, which: Tensor) -> Tensor:
        return which @ self.r(self.p if self.R is None else self.R @ self.p)[:, None]


def residuals(name: str, title: str, r: Function, start: Tensor, lowest: float = 0.0, R: Tensor | None = None):
    """f = 1/2 |r(R theta)|^2; start is that of theta."""
    count = len(r(start))
    network = Network(Formula(lambda p: count**0.5 * r(p), start, R))

    def f(theta: Tensor) -> Tensor:
        return 0.5 * r(theta if R is None else R @ theta).square().sum()

    return Landscape(name, title, f, start, lowest, network, heads.Value(), Value(), regression(torch.eye(count)))


def scalar(name: str, title: str, f: Function, start: Tensor, lowest: float) -> Landscape:
    """f as it is: no Gauss-Newton matrix, only gradient and Hessian."""
    network = Network(Formula(lambda p: f(p).reshape(1), start))
    return Landscape(name, title, f, start, lowest, network, heads.Value(), Lowered(), regression(torch.eye(1)))


def regression(inputs: Tensor, targets: Tensor | None = None) -> Samples:
    targets = torch.zeros(len(inputs), 1) if targets is None else targets
    return Samples(inputs=inputs, actions=targets, weight=torch.ones(len(inputs)))


def quadratic(name: str, title: str, H: Tensor, start: Tensor, optimum: Tensor | None = None) -> Landscape:
    """f = 1/2 (theta - theta*)^T H (theta - theta*), as one Linear layer."""
    optimum = torch.zeros(len(H)) if optimum is None else optimum
    mu, Q = torch.linalg.eigh(H)
    root = Q * mu.sqrt() @ Q.t()
    layer = nn.Linear(len(H), 1, bias=False)
    samples = regression(len(H) ** 0.5 * root, (len(H) ** 0.5 * root @ optimum)[:, None])

    def f(theta: Tensor) -> Tensor:
        return 0.5 * (theta - optimum) @ (H @ (theta - optimum))

    known = float(mu[0]), float(mu[-1])
    return Landscape(name, title, f, start, 0.0, Network(layer), heads.Value(), Value(), samples, known, True)


def rotated(eigenvalues: Tensor, seed: int) -> Tensor:
    """(P, P) with these eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    Q, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues), generator=generator))
    return Q * eigenvalues @ Q.t()


def turned(kappa: float, degrees: float) -> Tensor:
    """(2, 2) with eigenvalues 1 and kappa, the flat direction at this angle to the first axis."""
    a = np.deg2rad(degrees)
    Q = torch.tensor([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return Q * torch.tensor([1.0, kappa]) @ Q.t()


def canyon(kappa: float = 100.0, degrees: float = 30.0) -> Landscape:
    title = f"narrow canyon, κ = {kappa:g}, {degrees:g}° to the axes"
    H = turned(kappa, degrees)
    a = np.deg2rad(degrees)
    along, across = torch.tensor([np.cos(a), np.sin(a)]), torch.tensor([-np.sin(a), np.cos(a)])
    return quadratic("canyon", title, H, -4 * along + 0.6 * across)


def example() -> Landscape:
    """f = 5 x^2 + 13 y^2: Hessian diag(10, 26), condition number 2.6."""
    return quadratic("example", "5x² + 13y², κ = 2.6", torch.diag(torch.tensor([10.0, 26.0])), torch.tensor([2.0, 1.0]))


def ill_conditioned(size: int = 20, kappa: float = 1e4) -> Landscape:
    H = rotated(torch.logspace(0, np.log10(kappa), size) / kappa, seed=0)
    start = torch.randn(size, generator=torch.Generator().manual_seed(1))
    return quadratic("ill_conditioned", f"{size} dimensions, κ = {kappa:g}", H, start)


def _rosenbrock(p: Tensor) -> Tensor:
    return 2**0.5 * torch.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])


def rosenbrock(R: Tensor | None = None) -> Landscape:
    """f = 100 (y - x^2)^2 + (1 - x)^2, in theta with (x, y) = R theta."""
    start = torch.tensor([-1.2, 1.0])
    start = start if R is None else torch.linalg.solve(R, start)
    return residuals("rosenbrock", "Rosenbrock", _rosenbrock, start, R=R)


def bumpy(start: float = -7.5) -> Landscape:
    """f = x^2 / 20 + .3 (1 - cos 2x) + y^2 / 2: minima about every 3 along x, the lowest at 0."""

    def f(p: Tensor) -> Tensor:
        return p[0] ** 2 / 20 + 0.3 * (1 - torch.cos(2 * p[0])) + p[1] ** 2 / 2

    return scalar("bumpy", "local optima", f, torch.tensor([start, 1.0]), 0.0)


def chain(kappa: float, size: int, convex: bool = False) -> Landscape:
    """Nesterov's worst case, cut off at ``size``: L = 1, mu = 1 / kappa; with ``convex`` mu = 0 and kappa unused.

    h = (L - mu) / 8 (t_1^2 + sum_i (t_{i+1} - t_i)^2 - 2 t_1) + mu / 2 |t|^2
    """
    mu = 0.0 if convex else 1 / kappa
    T = 2 * torch.eye(size) - torch.diag(torch.ones(size - 1), 1) - torch.diag(torch.ones(size - 1), -1)
    if not convex:
        T[-1, -1] = 1.0  # the sum ends with the last difference
    H = (1 - mu) / 4 * T + mu * torch.eye(size)
    b = torch.zeros(size)
    b[0] = (1 - mu) / 4
    optimum = torch.linalg.solve(H, b)
    name = f"Nesterov's chain, κ = {kappa:g}, n = {size}" if not convex else f"Nesterov's chain, μ = 0, n = {size}"
    found = quadratic("chain", name, H, torch.zeros(size), optimum)
    return replace(found, bounds=(mu, 1.0))


def network(hidden: int = 8, count: int = 32) -> Landscape:
    """Least squares with a small tanh network: the landscape that metrics of outputs were made for."""
    x = torch.linspace(-1, 1, count)[:, None]
    module = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    net = Network(module)
    start = torch.randn(net.layout.size, generator=torch.Generator().manual_seed(3)) * 0.7
    samples = regression(x, torch.sin(3 * x))

    def f(theta: Tensor) -> Tensor:
        return 0.5 * (net.outputs(theta, x) - samples.actions).square().mean()

    title = f"tanh network 1-{hidden}-1 on sin 3x"
    return Landscape("network", title, f, start, 0.0, net, heads.Value(), Value(), samples, None, True)
