"""Batches compared field by field, to the bit."""

import dataclasses

import torch
from torch import Tensor

from rlopt.rollout.buffer import Rollout

FIELDS = [field.name for field in dataclasses.fields(Rollout)]


def same(a: Rollout, b: Rollout, name: str) -> bool:
    left, right = getattr(a, name), getattr(b, name)
    if isinstance(left, Tensor):
        return torch.equal(left, right)
    return left == right if not isinstance(left, tuple) else all(map(torch.equal, left, right))
