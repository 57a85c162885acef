"""Full-covariance Gaussian head: z = (mean, scale), covariance L L^T with one lower triangular L for all states.

scale holds log L_ii, and then L_ij for j < i, row by row. Everything follows from two moments of e = L^-1 (a - mean):
its mean e and S = E e e^T, over one action (S = e e^T), over the old policy (KL), or over the policy itself (e = 0,
S = I, which gives the Fisher information). With P = L^-T L^-1, r = L^-T e, R = L^-T S, and L_ij moving by s_ij:

    -1/2 E|e|^2 - sum log L_ii has    gradient    r_i in mean_i,   s_ij R_ij - [i = j] in scale_ij
    Hessian    -P_ik                                               mean_i, mean_k
               -s_kl (P_ik e_l + r_k (L^-1)_li)                    mean_i, scale_kl
               -s_ij s_kl (P_ik S_jl + R_il (L^-1)_jk + R_kj (L^-1)_li) + [ij = kl, i = j] s_ij R_ij

s_ij is L_ii on the diagonal, whose logarithm is the parameter, and 1 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from rlopt.core.checks import check, positive
from rlopt.core.heads.head import Head

MOST = 8  # numbers of an action; the scale has A (A + 1) / 2 numbers, and C that many rows and columns


class _Factor(NamedTuple):
    """L and what the formulas take of it."""

    lower: Tensor  # L (B, A, A)
    inverse: Tensor  # L^-1 (B, A, A)
    rows: Tensor  # (m,) i of every scale_ij
    columns: Tensor  # (m,) j
    moves: Tensor  # s (B, m)


@dataclass(frozen=True)
class FullGaussian(Head):
    """A Gaussian from z = (mean, scale) with correlated numbers; actions (B, size), before any bounds.

    Options:
        size: how many numbers an action has; 1 to 8.
        initial_sigma: of every number at the start, without correlation, in units of the action before bounds are
            applied; above 0.

    Raises ValueError where an option is out of its range.
    """

    size: int
    initial_sigma: float = 1.0

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"

    def __post_init__(self) -> None:
        check(1 <= self.size <= MOST, "size", f"a whole number, 1 to {MOST}", self.size)
        positive("initial_sigma", self.initial_sigma)

    @property
    def network_outputs(self) -> int:
        return self.size

    @property
    def constants(self) -> int:
        return self.size * (self.size + 1) // 2

    @property
    def noise_size(self) -> int:
        return self.size

    def initial_constants(self) -> Tensor:
        scale = torch.zeros(self.constants)
        scale[: self.size] = math.log(self.initial_sigma)
        return scale

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return self._log_prob(z, self._standardise(self._factor(z), actions - z[:, : self.size]))

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        factor = self._factor(z)
        e = self._standardise(factor, actions - z[:, : self.size])
        return self._log_prob(z, e), self._gradient(factor, e, e[:, :, None] * e[:, None])

    def log_prob_hessian(self, z: Tensor, actions: Tensor) -> Tensor:
        factor = self._factor(z)
        e = self._standardise(factor, actions - z[:, : self.size])
        return self._hessian(factor, e, e[:, :, None] * e[:, None])

    def entropy(self, z: Tensor) -> Tensor:
        return self._log_scale(z) + 0.5 * self.size * (1 + math.log(2 * math.pi))

    def std(self, z: Tensor) -> Tensor:
        return (self._factor(z).lower ** 2).sum(2).sqrt().mean(1)

    def entropy_gradient(self, z: Tensor) -> Tensor:
        gradient = torch.zeros_like(z)
        gradient[:, self.size : 2 * self.size] = 1
        return gradient

    def entropy_hessian(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z), z.shape[1], z.shape[1])

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        _, _, S = self._moments(old, new)
        return 0.5 * (S.diagonal(dim1=1, dim2=2).sum(1) - self.size) + self._log_scale(new) - self._log_scale(old)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        return -self._gradient(*self._moments(old, new))

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        return -self._hessian(*self._moments(old, new))

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        root = self.fisher_root(z).movedim(0, 1)  # (B, K, O)
        return lambda t: ((root @ t[:, :, None]).mT @ root).squeeze(1)

    def fisher_root(self, z: Tensor) -> Tensor:
        """Rows of L^-1 for the mean; for the scale L^-1 dL, whose squares count 2 on the diagonal, 1 below; K = O."""
        factor, n = self._factor(z), self.size
        i, j = factor.rows, factor.columns
        entries = (
            factor.inverse[:, i][:, :, i] * (j[:, None] == j) * factor.moves[:, None]
        )  # (B, K, O), d A_kl / d L_ij
        weights = (1 + (i == j).to(z)).sqrt()
        root = z.new_zeros(len(z), n + len(i), n + len(i))
        root[:, :n, :n], root[:, n:, n:] = factor.inverse, weights[:, None] * entries
        return root.movedim(1, 0)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        return z[:, : self.size] + (self._factor(z).lower @ noise[:, :, None]).squeeze(2)

    def mode(self, z: Tensor) -> Tensor:
        return z[:, : self.size]

    def _factor(self, z: Tensor) -> _Factor:
        n, (below, left) = self.size, torch.tril_indices(self.size, self.size, -1, device=z.device)
        diagonal, across = z[:, n : 2 * n].exp(), torch.arange(n, device=z.device)
        lower = z.new_zeros(len(z), n, n)
        lower[:, across, across], lower[:, below, left] = diagonal, z[:, 2 * n :]
        eye = torch.eye(n, dtype=z.dtype, device=z.device).expand_as(lower)
        inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
        rows, columns = torch.cat([across, below]), torch.cat([across, left])
        moves = torch.cat([diagonal, diagonal.new_ones(len(z), len(below))], 1)
        return _Factor(lower, inverse, rows, columns, moves)

    @staticmethod
    def _standardise(factor: _Factor, x: Tensor) -> Tensor:
        return (factor.inverse @ x[:, :, None]).squeeze(2)

    def _log_scale(self, z: Tensor) -> Tensor:
        """(B,) log det L."""
        return z[:, self.size : 2 * self.size].sum(1)

    def _log_prob(self, z: Tensor, e: Tensor) -> Tensor:
        return -0.5 * (e * e).sum(1) - self._log_scale(z) - 0.5 * self.size * math.log(2 * math.pi)

    def _moments(self, old: Tensor, new: Tensor) -> tuple[_Factor, Tensor, Tensor]:
        """Of e = L^-1 (a - mean) in ``new``, with a from ``old``: mean (B, A) and second moment (B, A, A)."""
        factor = self._factor(new)
        e = self._standardise(factor, old[:, : self.size] - new[:, : self.size])
        M = factor.inverse @ self._factor(old).lower
        return factor, e, M @ M.mT + e[:, :, None] * e[:, None]

    def _gradient(self, factor: _Factor, e: Tensor, S: Tensor) -> Tensor:
        """(B, O) of -1/2 E|e|^2 - log det L, see the module's docstring."""
        R = factor.inverse.mT @ S
        scale = factor.moves * R[:, factor.rows, factor.columns]
        scale[:, : self.size] -= 1
        return torch.cat([(factor.inverse.mT @ e[:, :, None]).squeeze(2), scale], 1)

    def _hessian(self, factor: _Factor, e: Tensor, S: Tensor) -> Tensor:
        """(B, O, O) likewise."""
        inverse, i, j, s = factor.inverse, factor.rows, factor.columns, factor.moves
        P, R = inverse.mT @ inverse, inverse.mT @ S
        r = (inverse.mT @ e[:, :, None]).squeeze(2)
        mixed = P[:, :, i] * e[:, None, j] + r[:, None, i] * inverse[:, j].mT  # (B, A, m)
        crossed = R[:, i][:, :, j] * inverse[:, j][:, :, i]  # [ij, kl]: R_il (L^-1)_jk
        scale = (P[:, i][:, :, i] * S[:, j][:, :, j] + crossed + crossed.mT) * s[:, :, None] * s[:, None]
        on_diagonal = torch.where(i == j, s * R[:, i, j], 0.0)
        mixed = mixed * s[:, None]
        top, bottom = torch.cat([P, mixed], 2), torch.cat([mixed.mT, scale - on_diagonal.diag_embed()], 2)
        return -torch.cat([top, bottom], 1)
