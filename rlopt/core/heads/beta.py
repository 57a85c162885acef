"""Beta head: each action of [-1, 1] is 2 x - 1 with x ~ Beta(alpha, beta), so that none is ever clipped.

alpha = 1 + softplus(z_alpha + c), beta = 1 + softplus(z_beta + c): both above 1, where the density has one mode within
(Chou, Maturana and Scherer 2017). With s = alpha + beta and trigamma psi', the Fisher information of one action in
(alpha, beta) is

    [ psi'(alpha) - psi'(s)    -psi'(s)           ]
    [ -psi'(s)                 psi'(beta) - psi'(s) ]

and in z it is that between the slopes of softplus. Actions are stored as atanh(2 x - 1) = (log x - log(1 - x)) / 2,
where neither bound costs digits; the environment receives tanh of it. Densities and entropy are those of 2 x - 1.

x is g_1 / (g_1 + g_2) for two gamma variates by the method of Marsaglia and Tsang (2000), which for shapes of 1 or
above accepts at least 95% of its proposals. Each variate has 8 proposals, of three normal numbers: its x, and two of
which half the sum of squares is exponential, as minus the logarithm of a uniform number is. All 8 are refused with a
probability below 4e-11, and the variate is then shape - 1/3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from rlopt.core.arrays import library
from rlopt.core.checks import at_least_one, check
from rlopt.core.heads.diagonal_gaussian import inverse_softplus, two_by_two
from rlopt.core.heads.head import Head

_PROPOSALS = 8
_UNIFORM = 3**-0.5  # sigma of the uniform distribution on [-1, 1], alpha = beta = 1


@dataclass(frozen=True)
class Beta(Head):
    """Independent Beta distributions on [-1, 1] from z = (z_alpha, z_beta); actions (B, size) are atanh of theirs.

    Options:
        size: how many numbers an action has; 1 or above.
        initial_sigma: standard deviation where z is 0; above 0 and below 0.577, that of the uniform distribution.

    Raises ValueError where an option is out of its range. Source: Chou, Maturana and Scherer 2017.
    """

    size: int
    initial_sigma: float = 0.5

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"
    squash: ClassVar[bool] = True  # the environment receives tanh of an action

    def __post_init__(self) -> None:
        at_least_one("size", self.size)
        wanted = "above 0 and below 0.577, that of the uniform distribution, for a Beta distribution"
        check(0 < self.initial_sigma < _UNIFORM, "initial_sigma", wanted, self.initial_sigma)

    @property
    def network_outputs(self) -> int:
        return 2 * self.size

    @property
    def noise_size(self) -> int:
        return 2 * self.size * _PROPOSALS * 3

    @cached_property
    def shift(self) -> float:
        """c, with which 2 x - 1 has variance 1 / (2 alpha + 1) = initial_sigma^2 at z = 0."""
        return inverse_softplus((self.initial_sigma**-2 - 3) / 2)

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        shapes, logs = self._shapes(z), self._logs(actions)
        return ((shapes - 1) * logs).sum((1, 2)) - (_log_beta(shapes) + math.log(2)).sum(1)

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        shapes, logs = self._shapes(z), self._logs(actions)
        score = (logs - _mean_logs(shapes)) * self._slope(z)
        log_prob = ((shapes - 1) * logs).sum((1, 2)) - (_log_beta(shapes) + math.log(2)).sum(1)
        return log_prob, score.flatten(1)

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        return self._bend(z, self._logs(actions) - _mean_logs(self._shapes(z))) - self._fisher(z)

    def entropy(self, z: Tensor) -> Tensor:
        shapes = self._shapes(z)
        return (_log_beta(shapes) + math.log(2) - ((shapes - 1) * _mean_logs(shapes)).sum(1)).sum(1)

    def std(self, z: Tensor) -> Tensor:
        alpha, beta = self._shapes(z).unbind(1)  # the action is twice the Beta's number, less 1
        found: Tensor = (2 * (alpha * beta / (alpha + beta + 1)).sqrt() / (alpha + beta)).mean(1)
        return found

    def entropy_gradient(self, z: Tensor) -> Tensor:
        return (self._entropy_slope(self._shapes(z)) * self._slope(z)).flatten(1)

    def entropy_hessian(self, z: Tensor) -> Tensor:
        shapes, slope = self._shapes(z), self._slope(z)
        total = shapes.sum(1)
        both = torch.polygamma(1, total) + (total - 2) * torch.polygamma(2, total)
        own = both[:, None] - torch.polygamma(1, shapes) - (shapes - 1) * torch.polygamma(2, shapes)
        first, second = (own * slope * slope).unbind(1)
        return two_by_two(first, both * slope.prod(1), second) + self._bend(z, self._entropy_slope(shapes))

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        p, q = self._shapes(old), self._shapes(new)
        return (_log_beta(q) - _log_beta(p) + ((p - q) * _mean_logs(p)).sum(1)).sum(1)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        moved = _mean_logs(self._shapes(new)) - _mean_logs(self._shapes(old))
        return (moved * self._slope(new)).flatten(1)

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        moved = _mean_logs(self._shapes(new)) - _mean_logs(self._shapes(old))
        return self._fisher(new) + self._bend(new, moved)

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        own, both, slope = self._trigammas(z)

        def apply(t: Tensor) -> Tensor:
            u = slope * t.reshape(slope.shape)
            return (slope * (own * u - both * u.sum(1, keepdim=True))).flatten(1)

        return apply

    def fisher_root(self, z: Tensor) -> Tensor:
        """Cholesky's factors of each action's two by two matrix, K = O: those of alpha, and then those of beta."""
        own, both, slope = self._trigammas(z)
        alpha, beta = own.unbind(1)
        both = both[:, 0]
        first = (alpha - both).sqrt()
        # the square of the last factor is the determinant over the first one's, whose own difference would lose digits
        last = ((alpha * beta - both * (alpha + beta)).clamp(min=0)).sqrt() / first
        lower = -both / first
        root = z.new_zeros(2, self.size, len(z), 2, self.size)
        k = torch.arange(self.size, device=z.device)
        root[0, k, :, 0, k] = (first * slope[:, 0]).T
        root[0, k, :, 1, k] = (lower * slope[:, 1]).T
        root[1, k, :, 1, k] = (last * slope[:, 1]).T
        return root.reshape(2 * self.size, len(z), 2 * self.size)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Half the difference of the gamma variates' logarithms; z and noise may be numpy's arrays."""
        lib = library(z)
        excess = self.excess(z) + 2 / 3  # shape - 1/3, (B, 2, A)
        proposals = noise.reshape(len(z), 2, self.size, _PROPOSALS, 3)
        x, d = proposals[..., 0], excess[..., None]
        v = (1 + x / (9 * d) ** 0.5) ** 3
        log_v = lib.log(lib.where(v > 0, v, 1.0))
        exponential = 0.5 * (proposals[..., 1] ** 2 + proposals[..., 2] ** 2)
        accepted = (v > 0) & (-exponential < 0.5 * x * x + d * (1 - v + log_v))
        found = lib.zeros_like(excess)  # log v, of the first that is accepted
        for i in reversed(range(_PROPOSALS)):
            found = lib.where(accepted[..., i], log_v[..., i], found)
        log_g = lib.log(excess) + found
        drawn: Tensor = 0.5 * (log_g[:, 0] - log_g[:, 1])
        return drawn

    def excess(self, z: Any) -> Any:
        """softplus(z + c), alpha - 1 and beta - 1, (B, 2, A); of a tensor or an array."""
        z = z.reshape(-1, 2, self.size) + self.shift
        return softplus(z) if isinstance(z, Tensor) else library(z).logaddexp(z, 0)

    def mode(self, z: Tensor) -> Tensor:
        logs: Tensor = self.excess(z).clamp(min=torch.finfo(z.dtype).tiny).log()
        return 0.5 * (logs[:, 0] - logs[:, 1])

    def _shapes(self, z: Tensor) -> Tensor:
        """alpha and beta (B, 2, A)."""
        shapes: Tensor = 1 + self.excess(z)
        return shapes

    def _slope(self, z: Tensor) -> Tensor:
        """d alpha / d z_alpha and d beta / d z_beta, (B, 2, A)."""
        return (z.reshape(-1, 2, self.size) + self.shift).sigmoid()

    def _bend(self, z: Tensor, gradient: Tensor) -> Tensor:
        """(B, O, O) what the chain rule adds to a Hessian, from the gradient (B, 2, A) in (alpha, beta)."""
        slope = self._slope(z)
        return (gradient * slope * (1 - slope)).flatten(1).diag_embed()

    def _trigammas(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """psi' of alpha and beta (B, 2, A), psi' of their sum (B, 1, A), and the slopes (B, 2, A)."""
        shapes = self._shapes(z)
        return torch.polygamma(1, shapes), torch.polygamma(1, shapes.sum(1, keepdim=True)), self._slope(z)

    def _fisher(self, z: Tensor) -> Tensor:
        own, both, slope = self._trigammas(z)
        first, second = ((own - both) * slope * slope).unbind(1)
        return two_by_two(first, -both[:, 0] * slope.prod(1), second)

    @staticmethod
    def _entropy_slope(shapes: Tensor) -> Tensor:
        """d entropy / d alpha and d beta, (B, 2, A)."""
        total = shapes.sum(1, keepdim=True)
        return (total - 2) * torch.polygamma(1, total) - (shapes - 1) * torch.polygamma(1, shapes)

    @staticmethod
    def _logs(actions: Tensor) -> Tensor:
        """log x and log(1 - x), (B, 2, A)."""
        return torch.stack([logsigmoid(2 * actions), logsigmoid(-2 * actions)], 1)


def _log_beta(shapes: Tensor) -> Tensor:
    """log B(alpha, beta), (B, A)."""
    return shapes.lgamma().sum(1) - shapes.sum(1).lgamma()


def _mean_logs(shapes: Tensor) -> Tensor:
    """E log x and E log(1 - x), (B, 2, A)."""
    return shapes.digamma() - shapes.sum(1, keepdim=True).digamma()
