"""Two sums h(theta) = 1/m sum_i h_i(theta), strongly convex: linear and logistic regression, for many seeds at once.

    linear     h_i = 1/2 (a_i . theta - y_i)^2     a noisy quadratic: the mean over i of grad h_i is linear in theta
    logistic   h_i = log(1 + exp(-y_i a_i . theta)) + ridge / 2 |theta|^2

A stochastic gradient is that of an i drawn uniformly, with replacement. Sigma is its covariance at theta*, H the
Hessian there. Letters: S seeds, m terms, d parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    kind: Literal["linear", "logistic"]
    a: Tensor  # (m, d)
    y: Tensor  # (m,); -1 or 1 where logistic
    ridge: float

    def slopes(self, margin: Tensor, y: Tensor) -> Tensor:
        """d h_i / d (a_i . theta) without the ridge."""
        return margin - y if self.kind == "linear" else -y * torch.sigmoid(-y * margin)

    def gradient(self, theta: Tensor, index: Tensor) -> Tensor:
        """(S, d) at theta (S, d), over the terms index (S, b)."""
        a, y = self.a[index], self.y[index]
        slopes = self.slopes((a * theta[:, None]).sum(2), y)
        return (slopes[:, :, None] * a).mean(1) + self.ridge * theta

    def full(self, theta: Tensor) -> Tensor:
        """(S, d) gradients of h."""
        return self.slopes(theta @ self.a.t(), self.y) @ self.a / len(self.a) + self.ridge * theta

    def value(self, theta: Tensor) -> Tensor:
        """(S,) h."""
        margin = theta @ self.a.t()
        each = (margin - self.y) ** 2 / 2 if self.kind == "linear" else torch.nn.functional.softplus(-self.y * margin)
        return each.mean(1) + self.ridge / 2 * theta.square().sum(1)

    def excess(self, theta: Tensor) -> Tensor:
        """(S,) h - h*, to rounding: the quadratic itself where h is one."""
        if self.kind == "linear":
            d = theta - self.optimum
            return ((d @ self.hessian) * d).sum(1) / 2
        return self.value(theta) - self.value(self.optimum[None])

    def hessian_at(self, theta: Tensor) -> Tensor:
        """(d, d) at theta (d,)."""
        weight = torch.ones(len(self.a))
        if self.kind == "logistic":
            p = torch.sigmoid(self.a @ theta)
            weight = p * (1 - p)
        return self.a.t() * weight @ self.a / len(self.a) + self.ridge * torch.eye(self.a.shape[1])

    @cached_property
    def optimum(self) -> Tensor:
        """(d,) by Newton's method."""
        theta = torch.zeros(self.a.shape[1])
        for _ in range(50):
            theta = theta - torch.linalg.solve(self.hessian_at(theta), self.full(theta[None])[0])
        return theta

    @cached_property
    def hessian(self) -> Tensor:
        return self.hessian_at(self.optimum)

    @cached_property
    def each(self) -> Tensor:
        """(m, d) gradients of every h_i at theta*; their mean is 0."""
        index = torch.arange(len(self.a))[:, None]
        return self.gradient(self.optimum.expand(len(self.a), -1), index)

    @cached_property
    def constant(self) -> float:
        """tr(H^-1 Sigma) / 2: k times the excess of averaged SGD after k steps of one term each, k large.

        The average's covariance tends to H^-1 Sigma H^-1 / k (Polyak and Juditsky 1992), and h - h* to half its trace
        with H.
        """
        sigma = self.each.t() @ self.each / len(self.a)
        return float(torch.linalg.solve(self.hessian, sigma).trace() / 2)

    @cached_property
    def mu(self) -> float:
        return float(torch.linalg.eigvalsh(self.hessian)[0])

    @cached_property
    def L(self) -> float:
        """Largest curvature of any h_i."""
        return float(self.a.square().sum(1).max() * (1 if self.kind == "linear" else 0.25) + self.ridge)


def make(kind: Literal["linear", "logistic"], terms: int = 200, size: int = 5, kappa: float = 10.0) -> Problem:
    """Gaussian inputs with variances from 1 / kappa to 1; labels from a linear model with noise."""
    rng = np.random.default_rng(7)
    a = rng.normal(size=(terms, size)) * np.logspace(-np.log10(kappa) / 2, 0, size)
    truth = rng.normal(size=size) * 1.5
    if kind == "linear":
        y = a @ truth + 0.5 * rng.normal(size=terms)
    else:
        y = np.where(rng.random(terms) < 1 / (1 + np.exp(-a @ truth)), 1.0, -1.0)
    return Problem(kind, torch.tensor(a), torch.tensor(y), 0.0 if kind == "linear" else 0.05)
