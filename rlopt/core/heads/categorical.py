"""Categorical head: p = softmax(z). Fisher information in z: C = diag(p) - p p^T."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.heads.head import Head


@dataclass(frozen=True)
class Categorical(Head):
    """One of several actions, from logits z (B, count); actions are int64 (B,).

    Options:
        count: how many actions; 1 or above, ValueError otherwise.
        masked: whether a mask forbids some, see core.tapes.masked; it changes nothing but the last bits. The library
            that computes exp(log p) takes ten times as long where the result is 0, and softmax does not.
    """

    count: int
    masked: bool = False

    noise: ClassVar[Literal["normal", "uniform"]] = "uniform"
    noise_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check(self.count >= 1, "count", "a whole number of actions, 1 or above", self.count)

    @property
    def network_outputs(self) -> int:
        return self.count

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return z.log_softmax(1).gather(1, actions[:, None]).squeeze(1)

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_p = z.log_softmax(1)
        chosen = actions[:, None]
        score = self._p(z, log_p).neg_()
        score.scatter_add_(1, chosen, score.new_ones(1).expand(len(z), 1))
        return log_p.gather(1, chosen).squeeze(1), score

    def entropy(self, z: Tensor) -> Tensor:
        log_p = z.log_softmax(1)
        return -(self._p(z, log_p) * log_p).sum(1)

    def entropy_gradient(self, z: Tensor) -> Tensor:
        log_p = z.log_softmax(1)
        p = self._p(z, log_p)
        return -p * (log_p - (p * log_p).sum(1, keepdim=True))

    def entropy_hessian(self, z: Tensor) -> Tensor:
        """p_i p_j (w_i + w_j + 1) - delta_ij p_i (w_i + 1), with w = log p + H."""
        log_p = z.log_softmax(1)
        p = log_p.exp()
        w = log_p - (p * log_p).sum(1, keepdim=True)
        outer = p[:, :, None] * p[:, None, :] * (w[:, :, None] + w[:, None, :] + 1)
        return outer - (p * (w + 1)).diag_embed()

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        log_old = old.log_softmax(1)
        return (self._p(old, log_old) * (log_old - new.log_softmax(1))).sum(1)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        return new.softmax(1) - old.softmax(1)

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        """C at ``new``, whatever ``old``."""
        p = new.softmax(1)
        return p.diag_embed() - p[:, :, None] * p[:, None, :]

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        p = z.softmax(1)

        def apply(t: Tensor) -> Tensor:
            weighted = p * t
            return weighted.sub_(p * weighted.sum(1, keepdim=True))

        return apply

    def fisher_root(self, z: Tensor) -> Tensor:
        """u_k = sqrt(p_k) (e_k - p), K = O."""
        p = z.softmax(1)
        directions = torch.eye(self.count, dtype=z.dtype, device=z.device) - p[:, None]  # (B, K, O)
        return (p.sqrt()[:, :, None] * directions).movedim(1, 0)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Inverse of the cumulative distribution at uniform noise (B, 1)."""
        cumulative = z.softmax(1).cumsum(1)
        return (cumulative <= below_total(noise, cumulative[:, -1:])).sum(1)

    def mode(self, z: Tensor) -> Tensor:
        return z.argmax(1)

    def _p(self, z: Tensor, log_p: Tensor) -> Tensor:
        """exp(log_p), a new tensor."""
        return z.softmax(1) if self.masked else log_p.exp()


def below_total(noise: Tensor, total: Tensor) -> Tensor:
    """``noise``, below the ``total`` that rounding left of a cumulative distribution.

    So where it is compared with that distribution it finds an action, and none that has no probability.
    """
    return torch.minimum(noise, torch.nextafter(total, torch.zeros_like(total)))
