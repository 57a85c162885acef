"""What a head's outputs stand for, by torch.distributions alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, distributions
from torch.nn.functional import softplus

from rlopt.core import heads


class Product:
    """Independent distributions side by side; an action has a column for each."""

    def __init__(self, parts: list[distributions.Distribution]):
        self.parts = parts

    def log_prob(self, actions: Tensor) -> Tensor:
        return sum(part.log_prob(a) for part, a in zip(self.parts, actions.unbind(1), strict=True))

    def entropy(self) -> Tensor:
        return sum(part.entropy() for part in self.parts)


class Mixed(Product):
    """The same, where an action has ``sizes[i]`` columns for part i; whole numbers where ``whole[i]`` is true."""

    def __init__(self, parts: list[Any], sizes: list[int], whole: list[bool], single: list[bool]):
        super().__init__(parts)
        self.sizes, self.whole, self.single = sizes, whole, single

    def log_prob(self, actions: Tensor) -> Tensor:
        found = []
        columns = actions.split(self.sizes, 1)
        for part, a, whole, single in zip(self.parts, columns, self.whole, self.single, strict=True):
            a = a.squeeze(1) if single else a
            found.append(part.log_prob(a.long() if whole else a))
        return sum(found)


class Bounded(distributions.Independent):
    """2 x - 1 with x from Beta distributions, of which actions are atanh."""

    def log_prob(self, actions: Tensor) -> Tensor:
        return super().log_prob((2 * actions).sigmoid()) - actions.shape[1] * math.log(2)

    def entropy(self) -> Tensor:
        return super().entropy() + self.event_shape[0] * math.log(2)


def of_product(head: heads.Product, z: Tensor) -> list[Tensor]:
    """The outputs of each of its parts: all parts' from the network, and then all constants."""
    own = z[:, : head.network_outputs].split([part.network_outputs for part in head.parts], 1)
    constants = z[:, head.network_outputs :].split([part.constants for part in head.parts], 1)
    return [torch.cat(pair, 1) for pair in zip(own, constants, strict=True)]


def distribution(head: Any, z: Tensor) -> Any:
    """What z (B, O) stands for, by its definition."""
    if isinstance(head, heads.Product):
        parts = [distribution(part, own) for part, own in zip(head.parts, of_product(head, z), strict=True)]
        singles = [isinstance(part, heads.Categorical) for part in head.parts]
        whole = [isinstance(part, heads.Categorical | heads.MultiCategorical) for part in head.parts]
        sizes = [getattr(part, "size", getattr(part, "count", 0)) for part in head.parts]
        sizes = [
            len(p.counts) if isinstance(p, heads.MultiCategorical) else n
            for p, n in zip(head.parts, sizes, strict=True)
        ]
        return Mixed(parts, [1 if single else n for n, single in zip(sizes, singles, strict=True)], whole, singles)
    if isinstance(head, heads.Beta):
        shift = math.log(math.expm1((1 / head.initial_sigma**2 - 1) / 2 - 1))
        shapes = 1 + softplus(z + shift, threshold=100)
        return Bounded(distributions.Beta(shapes[:, : head.size], shapes[:, head.size :]), 1)
    if isinstance(head, heads.GSDE):
        mean, phi, log_sigma = z.split([head.size, head.features, head.constants], 1)
        variance = torch.einsum("bf,bfa->ba", phi**2, log_sigma.exp().reshape(-1, head.features, head.size) ** 2)
        return distributions.Independent(distributions.Normal(mean, (variance + 1e-6).sqrt()), 1)
    if isinstance(head, heads.FullGaussian):
        scale = z[:, head.size :]
        L = scale[:, : head.size].exp().diag_embed()
        i, j = torch.tril_indices(head.size, head.size, -1)
        return distributions.MultivariateNormal(
            z[:, : head.size], scale_tril=L.index_put((torch.arange(len(z))[:, None], i, j), scale[:, head.size :])
        )
    if isinstance(head, heads.Joint):
        value = distributions.Normal(z[:, 0], torch.full_like(z[:, 0], head.variance).sqrt())
        own = distribution(head.policy, z[:, 1:])
        if isinstance(own, distributions.Independent):  # one for every number
            means, stds = own.base_dist.mean.unbind(1), own.base_dist.stddev.unbind(1)
            return Product([value, *(distributions.Normal(m, s) for m, s in zip(means, stds, strict=True))])
        if isinstance(own, Mixed):
            return Mixed([value, *own.parts], [1, *own.sizes], [False, *own.whole], [True, *own.single])
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
        first = head.initial_sigma if head.per_state else 1.0
        sigma = {
            "log_sigma": lambda: first * scale.exp(),
            "sigma": lambda: scale,
            "softplus": lambda: softplus(scale + math.log(math.expm1(first)), threshold=100),
        }[head.scale]()
    return distributions.Independent(distributions.Normal(mean, sigma), 1)


def log_prob(head: Any, z: Tensor, actions: Tensor) -> Tensor:
    return distribution(head, z).log_prob(actions)


def kl(head: Any, old: Tensor, new: Tensor) -> Tensor:
    p, q = distribution(head, old), distribution(head, new)
    return _kl(p, q)


def _kl(p: Any, q: Any) -> Tensor:
    if isinstance(p, Product):
        return sum(_kl(p, q) for p, q in zip(p.parts, q.parts, strict=True))
    if isinstance(p, Bounded):
        return distributions.kl_divergence(p.base_dist, q.base_dist).sum(1)
    return distributions.kl_divergence(p, q)
