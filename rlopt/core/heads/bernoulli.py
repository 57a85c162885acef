"""Bernoulli head: independent bits, each 1 with p = sigmoid(z). Fisher information in z: C = diag(p (1 - p))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn.functional import logsigmoid

from rlopt.core.checks import at_least_one
from rlopt.core.heads.head import Head


@dataclass(frozen=True)
class Bernoulli(Head):
    """Independent bits from logits z (B, count); actions (B, count) are 0 or 1 in the type of z.

    Options:
        count: how many bits; 1 or above, ValueError otherwise.
    """

    count: int

    noise: ClassVar[Literal["normal", "uniform"]] = "uniform"

    def __post_init__(self) -> None:
        at_least_one("count", self.count)

    @property
    def network_outputs(self) -> int:
        return self.count

    @property
    def noise_size(self) -> int:
        return self.count

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return logsigmoid((2 * actions - 1) * z).sum(1)

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_prob(z, actions), actions - z.sigmoid()

    def entropy(self, z: Tensor) -> Tensor:
        size = z.abs()  # H is even in z, and this side loses no digits
        return (size * (-size).sigmoid() - logsigmoid(size)).sum(1)

    def entropy_gradient(self, z: Tensor) -> Tensor:
        return -z * _variance(z)

    def entropy_hessian(self, z: Tensor) -> Tensor:
        """-p (1 - p) (1 + z (1 - 2 p)), diagonal; 1 - 2 p = -tanh(z / 2)."""
        return (_variance(z) * (z * (z / 2).tanh() - 1)).diag_embed()

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        ones = old.sigmoid() * (logsigmoid(old) - logsigmoid(new))
        zeros = (-old).sigmoid() * (logsigmoid(-old) - logsigmoid(-new))
        return (ones + zeros).sum(1)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        return new.sigmoid() - old.sigmoid()

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        """C at ``new``, whatever ``old``."""
        return _variance(new).diag_embed()

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        variance = _variance(z)
        return lambda t: variance * t

    def fisher_root(self, z: Tensor) -> Tensor:
        """u_k = sqrt(p_k (1 - p_k)) e_k, K = O."""
        return _variance(z).sqrt().diag_embed().movedim(1, 0)

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        """1 where uniform noise (B, count) is below p."""
        return (noise < z.sigmoid()).to(z.dtype)

    def mode(self, z: Tensor) -> Tensor:
        return (z > 0).to(z.dtype)


def _variance(z: Tensor) -> Tensor:
    """p (1 - p), (B, count)."""
    return z.sigmoid() * (-z).sigmoid()
