"""Storage: the memory of one rollout, [T, E, ...] by the names of Batch's fields, allocated once.

Worker processes write into it when it is shared: anonymous memory that they inherit, without a name or a file that
could outlive the run.
"""

from __future__ import annotations

import mmap

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.envs.spaces import PolicyHead, observation_dtype, observation_size

Storage = dict[str, Tensor]


def shared(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that this process and those it forks see alike."""
    empty = torch.empty(shape, dtype=dtype, device="meta")
    memory = mmap.mmap(-1, max(empty.numel() * empty.element_size(), 1))
    return torch.frombuffer(memory, dtype=dtype, count=empty.numel()).view(shape)


def allocate(
    steps: int, num_envs: int, space: gym.Space, head: PolicyHead, dtype: torch.dtype, between_processes: bool = False
) -> Storage:
    """Room for ``steps`` transitions of each environment, observations of ``space``, actions of ``head``."""
    size, seen = observation_size(space), observation_dtype(space, dtype)
    outputs = head.network_outputs + head.constants
    action = head.mode(torch.zeros(1, outputs, dtype=dtype))
    T, E = steps, num_envs
    shapes = {
        "inputs": ((T + 1, E, size), seen),
        "observations": ((T, E, size), seen),
        "actions": ((T, E, *action.shape[1:]), action.dtype),
        "outputs": ((T, E, outputs), dtype),
        "rewards": ((T, E), dtype),
        "terminated": ((T, E), torch.bool),
        "truncated": ((T, E), torch.bool),
        "time": ((T, E), torch.int64),
        "episode": ((T, E), torch.int64),
        "mask": ((T, E), dtype),
    }
    make = shared if between_processes else torch.zeros
    storage = {name: make(shape, dtype=kind) for name, (shape, kind) in shapes.items()}
    storage["mask"].fill_(1)
    return storage


def columns(storage: Storage, part: slice) -> Storage:
    """Views of some of the environments."""
    return {name: tensor[:, part] for name, tensor in storage.items()}
