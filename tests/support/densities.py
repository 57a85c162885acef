"""What a head's outputs stand for, by torch.distributions alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributions

from rlopt.core import heads


class Product:
    """Independent distributions side by side; an action has a column for each."""

    def __init__(self, parts: list[distributions.Distribution]):
        self.parts = parts

    def log_prob(self, actions: Tensor) -> Tensor:
        return sum(part.log_prob(a) for part, a in zip(self.parts, actions.unbind(1), strict=True))

    def entropy(self) -> Tensor:
        return sum(part.entropy() for part in self.parts)


def distribution(head: Any, z: Tensor) -> Any:
    """What z (B, O) stands for, by its definition."""
    if isinstance(head, heads.Joint):
        value = distributions.Normal(z[:, 0], torch.full_like(z[:, 0], head.variance).sqrt())
        own = distribution(head.policy, z[:, 1:])
        if isinstance(own, distributions.Independent):  # one for every number
            means, stds = own.base_dist.mean.unbind(1), own.base_dist.stddev.unbind(1)
            return Product([value, *(distributions.Normal(m, s) for m, s in zip(means, stds, strict=True))])
        return Product([value, *(own.parts if isinstance(own, Product) else [own])])
    if isinstance(head, heads.Categorical):
        return distributions.Categorical(logits=z)
    if isinstance(head, heads.MultiCategorical):
        return Product([distributions.Categorical(logits=part) for part in z.split(head.counts, 1)])
    if isinstance(head, heads.Bernoulli):  # torch's own Bernoulli loses the KL of bits that are nearly certain
        return Product([distributions.Categorical(logits=torch.stack([0 * bit, bit], 1)) for bit in z.unbind(1)])
    if isinstance(head, heads.Value):
        mean, sigma = z, torch.full_like(z, head.variance).sqrt()
    else:
        mean, scale = z[:, : head.size], z[:, head.size :]
        sigma = scale.exp() if head.scale == "log_sigma" else scale
    return distributions.Independent(distributions.Normal(mean, sigma), 1)


def log_prob(head: Any, z: Tensor, actions: Tensor) -> Tensor:
    return distribution(head, z).log_prob(actions)


def kl(head: Any, old: Tensor, new: Tensor) -> Tensor:
    p, q = distribution(head, old), distribution(head, new)
    if isinstance(p, Product):
        return sum(distributions.kl_divergence(p, q) for p, q in zip(p.parts, q.parts, strict=True))
    return distributions.kl_divergence(p, q)
