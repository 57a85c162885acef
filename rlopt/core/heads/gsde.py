"""Generalised state-dependent exploration: noise that is a function of the state (Raffin, Kober and Stulp 2021).

    a = mean(x) + N^T phi(x),    N_fa ~ N(0, sigma_fa^2), held for some steps of an environment

so that within a hold a state has one action. Given x alone a is Gaussian with the variance

    v_a = sum_f phi_f^2 sigma_fa^2 + 1e-6          (eq. 9; the last term is noise of its own, drawn with N)

whose log-probability is what learns. z = (mean, phi, log sigma), log sigma row by row and for all states.

The features phi are outputs of the network, a linear map of its last hidden layer with rows of length 1 at first. An
orthogonal map of the whole layer leaves the distribution of N^T phi as it is; a smaller one sees a part of the layer.
Unlike the authors' code the gradient reaches phi, as the true score does.

With y = (mean, log s), s_a^2 = v_a, all is that of a diagonal Gaussian in y, pulled back by J = dy/dz:

    d log s_a / d phi_f = phi_f sigma_fa^2 / v_a,    d log s_a / d log sigma_fa = phi_f^2 sigma_fa^2 / v_a
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check, positive
from rlopt.core.heads.diagonal_gaussian import DiagonalGaussian
from rlopt.core.heads.head import Head

_FLOOR = 1e-6  # variance beside that of the features'


class _Point(NamedTuple):
    """The Gaussian at z and its derivatives."""

    y: Tensor  # (B, 2 A) mean and log s
    by_phi: Tensor  # (B, F, A) d log s_a / d phi_f
    by_sigma: Tensor  # (B, F, A) d log s_a / d log sigma_fa
    share: Tensor  # (B, F, A) sigma_fa^2 / v_a


@dataclass(frozen=True)
class GSDE(Head):
    """A Gaussian whose noise is a function of features, from z = (mean, phi, log sigma); actions (B, size).

    Options:
        size: how many numbers an action has; 1 or above.
        features: F, how many features the noise is made of; 1 or above.
        hold: steps of an environment for which a draw of noise lasts; None: a rollout. 1 or above.
        initial_sigma: about the standard deviation of an action at the start, where features have the size 1; above 0.

    Raises ValueError where an option is out of its range. Source: Raffin, Kober and Stulp 2021.
    """

    size: int
    features: int = 16
    hold: int | None = 8
    initial_sigma: float = 1.0

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"

    def __post_init__(self) -> None:
        at_least_one("size", self.size)
        at_least_one("features", self.features)
        if self.hold is not None:
            at_least_one("hold", self.hold)
        positive("initial_sigma", self.initial_sigma)

    @property
    def network_outputs(self) -> int:
        return self.size + self.features

    @property
    def constants(self) -> int:
        return self.features * self.size

    @property
    def noise_size(self) -> int:
        return (self.features + 1) * self.size

    def initial_constants(self) -> Tensor:
        return torch.full((self.constants,), math.log(self.initial_sigma) - 0.5 * math.log(self.features))

    def prepare(self, weight: Tensor) -> None:
        rows = weight[self.size :]
        wanted = f"at most {weight.shape[1]}, the width of the network's last hidden layer"
        check(self.features <= weight.shape[1], "noise_features", wanted, self.features)
        rows.div_(rows.norm(dim=1, keepdim=True))

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return self._gaussian.log_prob(self._point(z).y, actions)

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        point = self._point(z)
        log_prob, score = self._gaussian.log_prob_and_score(point.y, actions)
        return log_prob, self._pull(point, score)

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        point = self._point(z)
        _, score = self._gaussian.log_prob_and_score(point.y, actions)
        return self._pull_hessian(point, score, self._gaussian.log_prob_hessian(point.y, actions))

    def entropy(self, z: Tensor) -> Tensor:
        return self._gaussian.entropy(self._point(z).y)

    def std(self, z: Tensor) -> Tensor:
        return self._gaussian.std(self._point(z).y)

    def entropy_gradient(self, z: Tensor) -> Tensor:
        point = self._point(z)
        return self._pull(point, self._gaussian.entropy_gradient(point.y))

    def entropy_hessian(self, z: Tensor) -> Tensor:
        point = self._point(z)
        gradient, H = self._gaussian.entropy_gradient(point.y), self._gaussian.entropy_hessian(point.y)
        return self._pull_hessian(point, gradient, H)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return self._gaussian.kl(self._point(old).y, self._point(new).y)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        point = self._point(new)
        return self._pull(point, self._gaussian.kl_gradient(self._point(old).y, point.y))

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        before, point = self._point(old), self._point(new)
        gradient, H = self._gaussian.kl_gradient(before.y, point.y), self._gaussian.kl_hessian(before.y, point.y)
        return self._pull_hessian(point, gradient, H)

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        point = self._point(z)
        C = self._gaussian.fisher_product(point.y)
        return lambda t: self._pull(point, C(self._push(point, t)))

    def fisher_root(self, z: Tensor) -> Tensor:
        """J^T times the Gaussian's factors, K = 2 A."""
        point = self._point(z)
        return torch.stack([self._pull(point, u) for u in self._gaussian.fisher_root(point.y)])

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        mean, phi, log_sigma = self._parts(z)
        drawn = noise.reshape(-1, self.features + 1, self.size)
        through = (phi[:, :, None] * log_sigma.exp() * drawn[:, :-1]).sum(1)
        return mean + through + math.sqrt(_FLOOR) * drawn[:, -1]

    def mode(self, z: Tensor) -> Tensor:
        return z[:, : self.size]

    @cached_property
    def _gaussian(self) -> DiagonalGaussian:
        return DiagonalGaussian(self.size)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """mean (B, A), phi (B, F) and log sigma (B, F, A)."""
        mean, phi, log_sigma = z.split([self.size, self.features, self.constants], 1)
        return mean, phi, log_sigma.reshape(-1, self.features, self.size)

    def _point(self, z: Tensor) -> _Point:
        mean, phi, log_sigma = self._parts(z)
        squares, phi = (2 * log_sigma).exp(), phi[:, :, None]
        v = (phi * phi * squares).sum(1, keepdim=True) + _FLOOR
        share = squares / v
        return _Point(torch.cat([mean, 0.5 * v.log().squeeze(1)], 1), phi * share, phi * phi * share, share)

    def _pull(self, point: _Point, u: Tensor) -> Tensor:
        """J^T u, (B, 2 A) -> (B, O)."""
        by_scale = u[:, None, self.size :]
        return torch.cat(
            [u[:, : self.size], (point.by_phi * by_scale).sum(2), (point.by_sigma * by_scale).flatten(1)], 1
        )

    def _push(self, point: _Point, t: Tensor) -> Tensor:
        """J t, (B, O) -> (B, 2 A)."""
        mean, phi, log_sigma = self._parts(t)
        return torch.cat([mean, (point.by_phi * phi[:, :, None] + point.by_sigma * log_sigma).sum(1)], 1)

    def _pull_hessian(self, point: _Point, gradient: Tensor, H: Tensor) -> Tensor:
        """(B, O, O) in z from gradient (B, 2 A) and Hessian (B, 2 A, 2 A) in y: J^T H J + sum_a g_a d^2 log s_a.

        d^2 log s = d^2 v / 2 v - 2 (d log s) (d log s)^T, and d^2 v couples a feature with its own sigma_fa alone.
        """
        A, F, g = self.size, self.features, gradient[:, self.size :]
        inner = H.clone()
        inner[:, A:, A:] -= 2 * g.diag_embed()
        columns = inner.reshape(-1, 2 * A)  # J^T H J = J^T (J^T H)^T for a symmetric H
        wide = _Point(*(x.repeat_interleave(2 * A, 0) for x in point))
        half = self._pull(wide, columns).reshape(-1, 2 * A, A + F + F * A)  # (B, 2 A, O), H J
        size = half.shape[2]
        wide = _Point(*(x.repeat_interleave(size, 0) for x in point))
        found = self._pull(wide, half.mT.reshape(-1, 2 * A)).reshape(-1, size, size)
        f = torch.arange(F, device=H.device)
        own = A + F + torch.arange(F * A, device=H.device)  # where log sigma_fa stands
        of = A + f.repeat_interleave(A)  # where its feature stands
        weighted = g[:, None]
        found[:, A + f, A + f] += (weighted * point.share).sum(2)
        mixed = (2 * weighted * point.by_phi).flatten(1)
        found[:, of, own] += mixed
        found[:, own, of] += mixed
        found[:, own, own] += (2 * weighted * point.by_sigma).flatten(1)
        return found
