"""Samples: the flat data (B, ...) of one update. Every mean over them is weighted and masked.

    mean(f) = sum_b share_b f_b,     share_b = weight_b / sum over all ranks of weight

A masked transition has weight 0; `state_weighting: discounted` has weight gamma^time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from rlopt.parallel.collectives import all_sum, all_sums, gather_counts, rank, world_size


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on ``device``; itself if it is there.

    From the host to a GPU it goes by way of pinned memory, which torch keeps until the copy is done, so that nothing
    waits for it and ``x`` may be overwritten at once.
    """
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


@dataclass(frozen=True)
class Samples:
    """B samples of one network's inputs and what its objective needs.

    For a critic the "action" is the regression target: the value head is a Gaussian over returns. For a policy and a
    value in one network it is the target beside the policy's action, see heads.Joint.
    """

    inputs: Tensor  # (B, ...) network inputs, already normalised
    actions: Tensor  # (B, ...) actions as drawn (before squashing or clipping), or targets (B, 1)
    weight: Tensor  # (B,) >= 0; 0 masks the sample
    # absent (None) where the objective has no use for them
    advantages: Tensor = None  # type: ignore[assignment]  # (B,)
    old_outputs: Tensor = None  # type: ignore[assignment]  # (B, O) outputs of the policy that acted
    old_log_prob: Tensor = None  # type: ignore[assignment]  # (B,) its log-probability of the actions
    time: Tensor = None  # type: ignore[assignment]  # (B,) steps since the start of the episode
    episode: Tensor = None  # type: ignore[assignment]  # (B,) episode identifier
    index: Tensor = None  # type: ignore[assignment]  # (B,) number among all ranks' samples; None: rank after rank

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def device(self) -> torch.device:
        return self.weight.device if isinstance(self.weight, Tensor) else torch.device("cpu")

    @cached_property
    def share(self) -> Tensor:
        """(B,) weight over its sum on all ranks: what a sample counts for in every mean."""
        return self.weight / all_sum(self.weight.sum())

    @cached_property
    def arrays(self) -> Samples:
        """The same samples as numpy's arrays in the same memory, see `core.arrays`."""
        return self.map(lambda value: value.numpy())  # type: ignore[arg-type, return-value]

    @cached_property
    def tensors(self) -> Samples:
        """The same samples as tensors; themselves if they are."""
        return self if isinstance(self.weight, Tensor) else self.map(torch.from_numpy)

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over all ranks' samples of values (B,) -> ()."""
        return all_sum(torch.dot(self.share, values))

    def take(self, index: Tensor | slice) -> Samples:
        """The samples at ``index``, in that order."""
        return self.map(lambda value: value[index])

    def map(self, f: Callable[[Tensor], Tensor]) -> Samples:
        """The samples with ``f`` applied to every field that is not None."""
        values = [getattr(self, name) for name in _NAMES]
        return Samples(*[None if value is None else f(value) for value in values])  # type: ignore[arg-type]

    def minibatches(self, size: int | None, generator: torch.Generator, sequence: int = 1) -> Iterator[Samples]:
        """One epoch: shuffled once, then consecutive slices of ``size``; ``None`` is the whole batch.

        When ``size`` does not divide B the last minibatch takes in the rest, so that none is tiny. The samples of all
        ranks are shuffled as one, each rank having its own of every slice, maybe none: the partition is that of one
        rank with all samples. Every ``sequence`` samples stay together, in their order; they divide ``size`` and B.
        """
        here = gather_counts(len(self), self.device) if size is not None else []
        total = sum(here)
        if size is None or size >= total:
            yield self
            return
        order = torch.randperm(total // sequence, generator=generator)
        if sequence > 1:
            order = (order[:, None] * sequence + torch.arange(sequence)).flatten()
        order = to_device(order, self.device)
        count = total // size
        sizes = [size] * (count - 1) + [total - (count - 1) * size]
        if world_size() > 1:
            first = sum(here[: rank()])
            index = torch.arange(first, first + len(self), device=order.device) if self.index is None else self.index
            positions, order = torch.argsort(order)[index].sort()  # of this rank's samples in the whole order
            sizes = torch.bincount((positions // size).clamp(max=count - 1), minlength=count).tolist()
        # a minibatch holds parts of episodes, for which time and episode are of no use
        shuffled = replace(self, time=None, episode=None, index=None)  # type: ignore[arg-type]
        if isinstance(self.weight, np.ndarray):
            rows = order.numpy()
            yield from shuffled.map(lambda value: value.take(rows, 0))._slices(sizes)  # quicker than by brackets
            return
        shuffled = shuffled.take(order)
        values = (getattr(shuffled, field.name) for field in fields(self))
        columns = [[None] * count if value is None else value.split(sizes) for value in values]
        if world_size() > 1:  # the weights of all minibatches in one sum, in place of one for each
            weights = all_sum(torch.stack([part.sum() for part in shuffled.weight.split(sizes)])).unbind()
        for i, parts in enumerate(zip(*columns, strict=True)):
            minibatch = Samples(*parts)
            if world_size() > 1:
                vars(minibatch)["share"] = minibatch.weight / weights[i]
            yield minibatch

    def _slices(self, sizes: list[int]) -> Iterator[Samples]:
        """Consecutive parts of these sizes, of samples that are arrays on one rank."""
        starts = [0, *accumulate(sizes)]
        share = self.weight / np.repeat(np.add.reduceat(self.weight, starts[:-1]), sizes)
        values = [getattr(self, name) for name in _NAMES]
        for start, end in pairwise(starts):
            part = Samples(*[None if value is None else value[start:end] for value in values])  # type: ignore[arg-type]
            vars(part)["share"] = share[start:end]
            yield part

    def with_normalised_advantages(self) -> Samples:
        """The same samples, their advantages with weighted mean 0 and standard deviation 1 over all ranks.

        They become 0 where they differ by rounding alone, and so does that of a single sample.
        """
        if isinstance(self.weight, np.ndarray):
            return self.tensors.with_normalised_advantages().arrays
        advantages, share = self.advantages.double(), self.share.double()
        mean = all_sum(torch.dot(share, advantages))
        centred = advantages - mean
        # of these the mean is the rounding of the first mean, which for equal advantages is all there is
        shift, square = all_sums(torch.dot(share, centred), torch.dot(share, centred**2))
        std = (square - shift**2).clamp(min=0).sqrt()
        rounding = 10 * torch.finfo(self.advantages.dtype).eps * mean.abs()
        normalised = (centred - shift) / torch.where(std > rounding, std, torch.inf)
        found = replace(self, advantages=normalised.to(self.advantages.dtype))
        vars(found)["share"] = self.share  # over all ranks' weights, which are the same
        return found

    def replacing(self, **values: Tensor) -> Samples:
        """The same samples with some fields replaced."""
        return replace(self, **values)

    def to(self, device: torch.device) -> Samples:
        """The samples on ``device``; themselves if they are there."""
        if self.weight.device == device:
            return self
        return self.map(lambda value: to_device(value, device))


_NAMES = [field.name for field in fields(Samples)]
