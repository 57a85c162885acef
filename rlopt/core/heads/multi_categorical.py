"""Multi-categorical head: independent categories, each with its own slice of the logits; p_i = softmax(z_i).

Fisher information in z: C = blockdiag(diag(p_i) - p_i p_i^T), of rank O - M for M categories with O logits in all.
With q = sqrt(p_i) a block is diag(q) (I - q q^T) diag(q), and a Householder reflection that swaps q with the last unit
vector gives the projection's factors, so that the root needs no more than rank many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.heads.categorical import below_total
from rlopt.core.heads.head import Head


@dataclass(frozen=True)
class MultiCategorical(Head):
    """One action of every category at once, from logits z (B, sum of counts); actions are int64 (B, M).

    Options:
        counts: how many actions each of the M categories has; 1 or above, ValueError otherwise.
    """

    counts: tuple[int, ...]

    noise: ClassVar[Literal["normal", "uniform"]] = "uniform"

    def __post_init__(self) -> None:
        check(len(self.counts) > 0, "counts", "one number of actions or more", self.counts)
        for count in self.counts:
            at_least_one("counts", count)

    @property
    def network_outputs(self) -> int:
        return sum(self.counts)

    @property
    def noise_size(self) -> int:
        return len(self.counts)

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return self._log_p(z).gather(2, actions[:, :, None]).sum((1, 2))

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_p, chosen = self._log_p(z), actions[:, :, None]
        score = log_p.exp().neg_()
        score.scatter_add_(2, chosen, score.new_ones(1).expand(chosen.shape))
        return log_p.gather(2, chosen).sum((1, 2)), self._flat(score)

    def entropy(self, z: Tensor) -> Tensor:
        log_p = self._log_p(z)
        return -(log_p.exp() * log_p).sum((1, 2))

    def entropy_gradient(self, z: Tensor) -> Tensor:
        p, w = self._surprise(z)
        return -p * w

    def entropy_hessian(self, z: Tensor) -> Tensor:
        """Within a category p_i p_j (w_i + w_j + 1) - delta_ij p_i (w_i + 1), with w = log p + H; 0 elsewhere."""
        p, w = self._surprise(z)
        outer = p[:, :, None] * p[:, None, :] * (w[:, :, None] + w[:, None, :] + 1)
        return outer * self._same(z) - (p * (w + 1)).diag_embed()

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        log_old = self._log_p(old)
        return (log_old.exp() * (log_old - self._log_p(new))).sum((1, 2))

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        return self._flat(self._log_p(new).exp_() - self._log_p(old).exp_())

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        """C at ``new``, whatever ``old``."""
        p = self._flat(self._log_p(new)).exp()
        return p.diag_embed() - p[:, :, None] * p[:, None, :] * self._same(new)

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        p = self._flat(self._log_p(z)).exp()
        same = self._same(z)

        def apply(t: Tensor) -> Tensor:
            weighted = p * t
            return weighted - p * (weighted @ same)

        return apply

    def fisher_root(self, z: Tensor) -> Tensor:
        """u_k = q_k e_k - q (q + e_n) q_k / (1 + q_n), k < n, for each category of n actions; K = O - M, or 1."""
        q = (0.5 * self._flat(self._log_p(z))).exp()
        root = q.new_zeros(max(self.network_outputs - len(self.counts), 1), *q.shape)
        k = start = 0
        for count in self.counts:
            q_i = q[:, start : start + count]
            swap = q_i.clone()
            swap[:, -1] += 1
            factors = (q_i / swap[:, -1:])[:, :-1, None] * (-q_i * swap)[:, None, :]  # (B, n - 1, n)
            factors.diagonal(dim1=1, dim2=2).add_(q_i[:, :-1])
            root[k : k + count - 1, :, start : start + count] = factors.movedim(1, 0)
            k, start = k + count - 1, start + count
        return root

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """Inverse of each category's cumulative distribution at uniform noise (B, M)."""
        cumulative = self._log_p(z).exp_().cumsum(2)
        return (cumulative <= below_total(noise[:, :, None], cumulative[:, :, -1:])).sum(2)

    def mode(self, z: Tensor) -> Tensor:
        return torch.stack([z_i.argmax(1) for z_i in z.split(self.counts, 1)], 1)

    @cached_property
    def _cells(self) -> Tensor | None:
        """(O,) where each logit stands in a table (M, N) with a row a category; None where the table is full."""
        longest = max(self.counts)
        if len(set(self.counts)) == 1:
            return None
        return torch.cat([i * longest + torch.arange(count) for i, count in enumerate(self.counts)])

    def _log_p(self, z: Tensor) -> Tensor:
        """(B, M, N) log probabilities; what fills up the shorter rows has no probability."""
        shape = len(z), len(self.counts), max(self.counts)
        if self._cells is None:
            return z.reshape(shape).log_softmax(2)
        table = z.new_full((len(z), shape[1] * shape[2]), torch.finfo(z.dtype).min / 2)  # not -inf: 0 log 0 is 0
        table[:, self._cells.to(z.device)] = z
        return table.view(shape).log_softmax(2)

    def _flat(self, table: Tensor) -> Tensor:
        """(B, M, N) -> (B, O), without what filled up the rows."""
        flat = table.flatten(1)
        return flat if self._cells is None else flat[:, self._cells.to(flat.device)]

    def _surprise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """p and log p + H of the category it belongs to, (B, O) each."""
        log_p = self._log_p(z)
        p = log_p.exp()
        return self._flat(p), self._flat(log_p - (p * log_p).sum(2, keepdim=True))

    def _same(self, z: Tensor) -> Tensor:
        """(O, O) 1 where two logits belong to one category, else 0."""
        counts = torch.tensor(self.counts, device=z.device)
        category = torch.arange(len(self.counts), device=z.device).repeat_interleave(counts)
        return (category[:, None] == category).to(z.dtype)
