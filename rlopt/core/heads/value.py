"""Value head: a return is Gaussian around z with a fixed variance, so a critic is trained by the same update.

log p(target | z) = -(target - z)^2 / (2 variance) + const; its Fisher information in z is 1 / variance, which makes
Gauss-Newton on squared error a natural gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import positive
from rlopt.core.heads.head import Head


@dataclass(frozen=True)
class Value(Head):
    """One number z (B, 1) per state, around which returns are Gaussian; the "actions" are its targets (B, 1).

    Options:
        variance: in squared units of the (scaled) return; above 0, ValueError otherwise.
    """

    variance: float = 1.0

    noise: ClassVar[Literal["normal", "uniform"]] = "normal"
    network_outputs: ClassVar[int] = 1
    noise_size: ClassVar[int] = 1
    takes_arrays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("variance", self.variance)

    def log_prob(self, z: Tensor, actions: Tensor) -> Tensor:
        return self.log_prob_and_score(z, actions)[0]

    def log_prob_and_score(self, z: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        error = actions - z
        score = error / self.variance if self.variance != 1 else error
        constant = 0.5 * math.log(2 * math.pi * self.variance)
        return -0.5 * (error * score)[:, 0] - constant, score

    def entropy(self, z: Tensor) -> Tensor:
        return z.new_full((len(z),), 0.5 * (1 + math.log(2 * math.pi * self.variance)))

    def entropy_gradient(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z)

    def entropy_hessian(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z), 1, 1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        return ((old - new) ** 2).squeeze(1) / (2 * self.variance)

    def kl_gradient(self, old: Tensor, new: Tensor) -> Tensor:
        return (new - old) / self.variance

    def kl_hessian(self, old: Tensor, new: Tensor) -> Tensor:
        return new.new_full((len(new), 1, 1), 1 / self.variance)

    def fisher_product(self, z: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda t: t / self.variance

    def fisher_root(self, z: Tensor) -> Tensor:
        return torch.full_like(z, self.variance**-0.5)[None]

    def sample(self, z: Tensor, noise: Tensor) -> Tensor:
        sigma: float = self.variance**0.5
        return z + sigma * noise

    def mode(self, z: Tensor) -> Tensor:
        return z
