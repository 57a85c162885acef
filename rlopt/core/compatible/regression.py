"""The equations that compatible critics solve for w, by whichever is smaller of parameters and samples.

    (Psi^T D R Psi + rho I) w = Psi^T D R y                    rows psi_b (B, P) of Psi, D = diag(share)
                            w = Psi^T D (R Psi Psi^T D + rho I)^-1 R y          the same, by the push-through identity
                          rho = ridge tr(F) / N,   F = Psi^T D Psi,   N = (sum share)^2 / sum share^2

R (B, B) is linear in what it is given: the critic's residual, from which the features of the state have been removed.
The ridge is relative to the trace of the scores' own Fisher matrix F, so it has no unit. N is the number of samples, or
of episodes, that count. F's mean eigenvalue is tr(F) / P, and rho is ridge P / N of it: much where there are more
parameters than samples and most of F is noise, next to nothing with many samples, where w goes to F^+ g. The second
form needs only the scores' inner products; it holds for a ridge above 0, on one rank. Without a ridge w is the shortest
solution. Both are solved in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.solvers.per_layer import gradients, layer_shape, products
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_sum, world_size


class Scores(Protocol):
    """Psi, B rows of P numbers."""

    @property
    def shape(self) -> tuple[int, int]:
        """(B, P): the number of samples, and of parameters."""

    def rows(self) -> Tensor:
        """(B, P)."""

    def gram(self) -> Tensor:
        """(B, B) Psi Psi^T."""

    def pull(self, u: Tensor) -> Tensor:
        """(B,) -> (P,) Psi^T u."""


class SampleScores:
    """psi_b = J_b^T s_b, a row a sample, from the tape; s (B, O) the scores in output space."""

    def __init__(self, tape: Tape, s: Tensor):
        self.tape, self.s = tape, s
        self.shape = len(s), tape.size

    def rows(self) -> Tensor:
        layers = self.tape.layers(self.s[None])
        return torch.cat([layer_shape(layer).flat(gradients(layer)[0]) for layer in layers], 1).double()

    def gram(self) -> Tensor:
        return torch.stack([products(layer) for layer in self.tape.layers(self.s[None])]).sum(0).double()

    def pull(self, u: Tensor) -> Tensor:
        return self.tape.vjp(self.s * u.to(self.s)[:, None])


class GivenScores:
    """Psi held as rows (B, P)."""

    def __init__(self, rows: Tensor):
        self._rows = rows
        self.shape = rows.shape[0], rows.shape[1]

    def rows(self) -> Tensor:
        return self._rows

    def gram(self) -> Tensor:
        return self._rows @ self._rows.t()

    def pull(self, u: Tensor) -> Tensor:
        return self._rows.t() @ u


def solve(scores: Scores, share: Tensor, residual: Callable[[Tensor], Tensor], y: Tensor, ridge: float) -> Tensor:
    """w (P,) float64, for targets y (B,), share (B,) and R: (B, m) -> (B, m), all float64; ridge 0 or above."""
    B, P = scores.shape
    target = residual(y[:, None])
    if P <= B or world_size() > 1 or not ridge:
        rows = scores.rows()
        weighted = rows * share[:, None]
        matrix, right = all_sum(weighted.t() @ residual(rows)), all_sum(weighted.t() @ target)
        rho = ridge * _trace_of_a_sample(share, (weighted * rows).sum())
        return _solved(matrix, rho, right)
    gram = scores.gram()
    rho = ridge * _trace_of_a_sample(share, torch.dot(share, gram.diagonal()))
    u = _solved(residual(gram) * share, rho, target)
    return scores.pull(share * u).double()


def removed(features: Tensor, by: Tensor, share: Tensor) -> Callable[[Tensor], Tensor]:
    """u (B, m) -> u less its part in ``by`` (B, n), so that features^T D of what is left is 0; features (B, n).

    Features that are linear combinations of others count once (by pseudo-inverse).
    """
    instruments = (features * share[:, None]).t()
    inverse = _inverse(all_sum(instruments @ by))
    return lambda u: u - by @ (inverse @ all_sum(instruments @ u))


def _trace_of_a_sample(share: Tensor, trace: Tensor) -> Tensor:
    """() tr(F) / N, from this rank's part of tr(F)."""
    trace, total, squares = all_sum(torch.stack([trace, share.sum(), torch.dot(share, share)])).unbind()
    return torch.where(total > 0, trace * squares / total**2, 0.0)


def _solved(matrix: Tensor, rho: Tensor, right: Tensor) -> Tensor:
    """(N,) with (matrix + rho I) x = right (N, 1)."""
    x: Tensor
    if rho:
        matrix.diagonal().add_(rho)
        x, info = torch.linalg.solve_ex(matrix, right)
    else:
        x, info = _inverse(matrix) @ right, matrix.new_zeros(())
    if info.item() or not x.sum().isfinite():
        raise NumericalFailure("the compatible critic's equations have no finite solution")
    return x[:, 0]


def _inverse(matrix: Tensor) -> Tensor:
    """Pseudo-inverse."""
    try:
        inverse: Tensor = torch.linalg.pinv(matrix)
        return inverse
    except RuntimeError as error:  # LinAlgError is one
        raise NumericalFailure("the compatible critic's equations hold a number that is not finite") from error
