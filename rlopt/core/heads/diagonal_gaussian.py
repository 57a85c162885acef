"""Diagonal Gaussian head: z = (mean, scale), each (B, A), with the scale given as log sigma or as sigma itself.

Fisher information in z, diagonal: 1 / sigma^2 for the mean; for the scale 2 in log sigma, 2 / sigma^2 in sigma.
In sigma a step may leave the domain (sigma <= 0) and is then rejected; in log sigma it cannot.

A network may compute the scale, for each state its own (``per_state``). Its outputs are near 0 at first, so that
log sigma = s + log sigma_0, or sigma = softplus(s + c), which is sigma_0 at s = 0; the Fisher information is then
2 and 2 (d log sigma / d s)^2.

With ``squash`` the environment receives tanh(a). Actions are stored before the squashing, where score, Fisher and KL
are those of the Gaussian, because the change of variables does not depend on z. Only the entropy changes, by
E[sum log(1 - tanh^2 a)] = -2 E[sum log cosh a]:

    log cosh a = E|a + n| - log 2 + r(a)                  n a standard normal
    E|a + n|   = m erf(m / (s sqrt 2)) + s sqrt(2 / pi) exp(-m^2 / 2 s^2)      over a and n; m = mean, s^2 = sigma^2 + 1

r is smooth and 0 far from a = 0, so that the trapezoidal rule finds its mean with an error that falls exponentially
with the number of points (Trefethen and Weideman 2014). In float64 entropy, gradient and Hessian are right to 1e-6 for
sigma up to 50.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from rlopt.core.arrays import library
from rlopt.core.checks import at_least_one, check, positive
from rlopt.core.heads.head import Head

_TINY = 40.0  # below -_TINY softplus is e^x to the last bit
_SPACING, _REACH = 0.4, 25  # of the quadrature's points, and how many lie on either side of the middle


@dataclass(frozen=True)
class DiagonalGaussian(Head):
    """Independent Gaussians from z = (mean, scale); actions (B, size), before any squashing or bounds.

    Options:
        size: how many numbers an action has; 1 or above.
        scale: log_sigma, sigma or softplus, what the outputs beside the mean are.
        initial_sigma: sigma at the start, in units of the action before bounds are applied; above 0.
        squash: the environment receives tanh of the action; only the entropy changes.
        per_state: the network computes the scale; else it is one vector for all states, the last numbers of theta.

    Raises ValueError where an option is out of its range.
    """

    size: int
    scale: Literal["log_sigma", "sigma", "softplus"] = "log_sigma"
    initial_sigma: float = 1.0
    squash: bool = False
    per_state: bool = False

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"

    def __post_init__(self) -> None:
        at_least_one("size", self.size)
        known = ("log_sigma", "sigma", "softplus") if self.per_state else ("log_sigma", "sigma")
        check(self.scale in known, "scale", " or ".join(known), self.scale)
        positive("initial_sigma", self.initial_sigma)

    @property
    def network_outputs(self) -> int:
        return 2 * self.size if self.per_state else self.size

    @property
    def constants(self) -> int:
        return 0 if self.per_state else self.size

    @property
    def noise_size(self) -> int:
        return self.size

    @property
    def bounded(self) -> bool:
        return self.scale == "sigma"

    @property
    def takes_arrays(self) -> bool:  # see `core.arrays`
        return not self.squash and self.scale != "softplus"  # whose entropy and slope are torch's alone

    @cached_property
    def shift(self) -> float:
        """What is added to a network's scale, so that sigma is initial_sigma where that is 0."""
        if not self.per_state or self.scale == "sigma":
            return 0.0
        sigma = self.initial_sigma
        return math.log(sigma) if self.scale == "log_sigma" else inverse_softplus(sigma)

    def initial_constants(self) -> Tensor:
        sigma = self.initial_sigma
        return torch.full((self.constants,), math.log(sigma) if self.scale == "log_sigma" else sigma)

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        mean, log_sigma, _ = self._parts(z)
        e = (actions - mean) * (-log_sigma).exp()
        return -(0.5 * e * e + log_sigma).sum(1) - 0.5 * self.size * math.log(2 * math.pi)

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_sigma, slope = self._parts(z)
        inverse = library(z).exp(-log_sigma)
        e = (actions - mean) * inverse
        squared = e * e
        log_prob = -(0.5 * squared + log_sigma).sum(1) - 0.5 * self.size * math.log(2 * math.pi)
        return log_prob, library(z).concatenate([e * inverse, _times(squared - 1, slope)], 1)

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        mean, log_sigma, slope = self._parts(z)
        inverse = (-log_sigma).exp()
        e = (actions - mean) * inverse
        squared = e * e
        return self._by_scale(z, -inverse * inverse, -2 * e * inverse, -2 * squared, squared - 1, slope)

    def entropy(self, z: Tensor) -> Tensor:
        mean, log_sigma, _ = self._parts(z)
        h = log_sigma.sum(1) + 0.5 * self.size * (1 + math.log(2 * math.pi))
        if self.squash:
            a, _, weights = self._quadrature(z)
            size = a.abs()
            r = torch.log1p((-2 * size).exp()) + size - _expected_size(size, 1.0)
            wide = _expected_size(mean, _with_one(log_sigma))
            h = h - 2 * (wide + (r * weights).sum(2) - math.log(2)).sum(1)
        return h

    def std(self, z: Tensor) -> Tensor:
        return self._parts(z)[1].exp().mean(1)  # before any squashing

    def entropy_gradient(self, z: Tensor) -> Tensor:
        mean, log_sigma, slope = self._parts(z)
        by_mean, by_log_sigma = library(z).zeros_like(mean), library(z).ones_like(log_sigma)
        if self.squash:
            a, _, weights = self._quadrature(z)
            tanh = (mean / (_with_one(log_sigma) * math.sqrt(2))).erf()  # E of the smooth step erf(a / sqrt 2)
            tanh = tanh + ((a.tanh() - (a / math.sqrt(2)).erf()) * weights).sum(2)
            by_mean = -2 * tanh  # d log(1 - tanh^2 a) / da = -2 tanh a
            by_log_sigma = 1 + self._fallen(log_sigma, a, weights)
        gradient: Tensor = library(z).concatenate([by_mean, _times(by_log_sigma, slope)], 1)
        return gradient

    def entropy_hessian(self, z: Tensor) -> Tensor:
        mean, log_sigma, slope = self._parts(z)
        by_log_sigma, zero = torch.ones_like(log_sigma), torch.zeros_like(mean)
        if not self.squash:
            return self._by_scale(z, zero, zero, zero, by_log_sigma, slope)
        a, spread, weights = self._quadrature(z)  # spread = da / d log sigma, which is also its own derivative
        bend = -2 * (1 - a.tanh() ** 2) * weights  # d^2 log(1 - tanh^2 a) / da^2
        fallen = self._fallen(log_sigma, a, weights)
        both, scale = (bend * spread).sum(2), (bend * spread * spread).sum(2) + fallen
        return self._by_scale(z, bend.sum(2), both, scale, by_log_sigma + fallen, slope)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        mean, log_sigma, _ = self._parts(old)
        new_mean, new_log_sigma, _ = self._parts(new)
        moved = (2 * log_sigma).exp() + (mean - new_mean) ** 2
        ratio = moved * (-2 * new_log_sigma).exp()
        return (new_log_sigma - log_sigma + 0.5 * (ratio - 1)).sum(1)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        mean, log_sigma, _ = self._parts(old)
        new_mean, new_log_sigma, slope = self._parts(new)
        precision = (-2 * new_log_sigma).exp()
        moved = (2 * log_sigma).exp() + (mean - new_mean) ** 2
        return torch.cat([(new_mean - mean) * precision, _times(1 - moved * precision, slope)], 1)

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        mean, log_sigma, _ = self._parts(old)
        new_mean, new_log_sigma, slope = self._parts(new)
        precision = (-2 * new_log_sigma).exp()
        ratio = ((2 * log_sigma).exp() + (mean - new_mean) ** 2) * precision
        return self._by_scale(new, precision, 2 * (mean - new_mean) * precision, 2 * ratio, 1 - ratio, slope)

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        diagonal = self._fisher_diagonal(z)
        return lambda t: diagonal * t

    def fisher_root(self, z: Tensor) -> Tensor:
        """u_k = sqrt(C_kk) e_k, K = O."""
        return torch.diag_embed(self._fisher_diagonal(z).sqrt()).movedim(1, 0)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        mean, log_sigma, _ = self._parts(z)
        return torch.addcmul(mean, log_sigma.exp(), noise)

    def mode(self, z: Tensor) -> Tensor:
        return z[:, : self.size]

    def in_domain(self, z: Tensor) -> Tensor:
        finite = z.isfinite().all()
        return finite & (z[:, self.size :] > 0).all() if self.bounded else finite

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """mean, log sigma, and d log sigma / d scale (None where it is 1)."""
        mean, scale = z[:, : self.size], z[:, self.size :]
        if self.scale == "log_sigma":
            return mean, scale + self.shift if self.per_state else scale, None
        if self.scale == "softplus":
            scale = scale + self.shift
            sigma, low = softplus(scale), scale < -_TINY
            log_sigma = torch.where(low, scale, sigma.clamp(min=math.exp(-2 * _TINY)).log())
            return mean, log_sigma, scale.sigmoid() * (-log_sigma).exp()
        return mean, library(z).log(scale), 1 / scale

    def _by_scale(
        self, z: Tensor, mean: Tensor, mixed: Tensor, scale: Tensor, by_log_sigma: Tensor, slope: Tensor | None
    ) -> Tensor:
        """Hessian (B, 2 A, 2 A) in (mean, scale) at z from its diagonals (B, A) in (mean, log sigma).

        The chain rule adds the derivative by log sigma times d^2 log sigma / d scale^2, which is -1 / sigma^2 in sigma
        and slope (1 - sigmoid) - slope^2 for softplus.
        """
        if slope is not None:
            bent = by_log_sigma
            if self.scale == "softplus":
                bent = by_log_sigma * (1 - (-z[:, self.size :] - self.shift).sigmoid() / slope)
            mixed, scale = mixed * slope, (scale - bent) * slope * slope
        return two_by_two(mean, mixed, scale)

    def _fisher_diagonal(self, z: Tensor) -> Tensor:
        mean, log_sigma, slope = self._parts(z)
        twice = torch.full_like(mean, 2)
        return torch.cat([(-2 * log_sigma).exp(), twice if slope is None else twice * slope**2], 1)

    def _quadrature(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Points a, a - mean, and weights (B, A, N) of the trapezoidal rule, for functions that are 0 far from 0.

        They reach 10 on either side of 0, or 10 sigma on either side of the mean where sigma < 1.
        """
        mean, log_sigma, _ = self._parts(z)
        mean, sigma = mean[:, :, None], log_sigma.exp()[:, :, None]
        middle, unit = torch.where(sigma < 1, mean, 0.0), sigma.clamp(max=1)
        t = _SPACING * torch.arange(-_REACH, _REACH + 1, dtype=z.dtype, device=z.device)
        e = (middle - mean) / sigma + unit / sigma * t  # t itself where sigma < 1
        weights = (-0.5 * e * e).exp() * (unit / sigma * (_SPACING / math.sqrt(2 * math.pi)))
        return middle + unit * t, sigma * e, weights

    def _fallen(self, log_sigma: Tensor, a: Tensor, weights: Tensor) -> Tensor:
        """d E[log(1 - tanh^2 a)] / d log sigma (B, A) = sigma^2 E[-2 (1 - tanh^2 a)], by Stein's identity."""
        sigma = log_sigma.exp()
        return -2 * sigma * (sigma[:, :, None] * (1 - a.tanh() ** 2) * weights).sum(2)


def _with_one(log_sigma: Tensor) -> Tensor:
    """sqrt(sigma^2 + 1)."""
    return torch.hypot(log_sigma.exp(), torch.ones_like(log_sigma))


def _expected_size(mean: Tensor, s: Tensor | float) -> Tensor:
    """E|y| of a Gaussian y of this mean and standard deviation s."""
    u = mean / (s * math.sqrt(2))
    return mean * u.erf() + s * math.sqrt(2 / math.pi) * (-u * u).exp()


def _times(x: Tensor, slope: Tensor | None) -> Tensor:
    return x if slope is None else x * slope


def two_by_two(first: Tensor, mixed: Tensor, second: Tensor) -> Tensor:
    """(B, 2 A, 2 A) from the diagonals (B, A) of its four blocks, of which those aside are equal."""
    off = mixed.diag_embed()
    return torch.cat([torch.cat([first.diag_embed(), off], 2), torch.cat([off, second.diag_embed()], 2)], 1)


def inverse_softplus(y: float) -> float:
    """x with log(1 + e^x) = y > 0."""
    return y + math.log(-math.expm1(-y))
