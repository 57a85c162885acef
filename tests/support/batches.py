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


NONE = torch.zeros(0)


def batch(
    rewards: Tensor, terminated: Tensor, truncated: Tensor, mask: Tensor | None = None, **given: Tensor
) -> Rollout:
    values = {
        "inputs": NONE,
        "observations": NONE,
        "actions": NONE,
        "outputs": NONE,
        "time": torch.zeros_like(rewards),
        "episode": NONE,
        "final": NONE,
        "following": NONE,
        "raw_final": NONE,
        "final_index": (NONE.long(), NONE.long()),
        "mask": torch.ones_like(rewards) if mask is None else mask,
    }
    return Rollout(rewards=rewards, terminated=terminated, truncated=truncated, **(values | given))
