"""Batches compared field by field, to the bit."""

import dataclasses

import torch
from torch import Tensor

from rlopt.rollout.buffer import Batch

FIELDS = [field.name for field in dataclasses.fields(Batch)]


def same(a: Batch, b: Batch, name: str) -> bool:
    left, right = getattr(a, name), getattr(b, name)
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    return left == right if not isinstance(left, tuple) else all(map(torch.equal, left, right))
