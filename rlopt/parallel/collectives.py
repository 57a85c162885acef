"""The one place where a sum over this rank's samples becomes a sum over all ranks' samples.

Every mean in rlopt is ``sum_b w_b f_b / sum_b w_b``. Samples divide their weights by the global sum once
(`samples.Samples.share`). So a mean is a plain sum of ``share_b f_b``, passed through `all_sum`, and ranks may hold
different numbers of samples. Nothing is squared, inverted or decomposed before it has passed through here.

All ranks must take the same branch, or one of them would wait for a sum that another never sends. They decide on
numbers that have been summed here, which have the same bits on every rank, or by `all_ranks`. With one rank these
functions do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rlopt.errors import RankLost

T = TypeVar("T")
_SOURCE = re.compile(r"^\[[^]]*\] *")  # gloo begins a message with its file and line
_FAITHFUL = 0.1  # largest difference between ranks, as a share of the update, that rounding can explain


def world_size() -> int:
    """Number of ranks; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this rank, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def local_slice(count: int) -> range:
    """Part of ``range(count)`` for this rank. The parts are equal and consecutive; the ranks divide ``count``.

    Environments are divided so: number i of this rank is number ``local_slice(num_envs)[i]`` of the run.
    """
    each = count // world_size()
    return range(rank() * each, (rank() + 1) * each)


def all_sum(x: Tensor) -> Tensor:
    """Sum of ``x`` over ranks, a new tensor; ``x`` itself on one rank."""
    return all_sums(x)[0]


def all_sums(*parts: Tensor) -> list[Tensor]:
    """`all_sum` of several tensors of one dtype, in one message."""
    if world_size() == 1:
        return list(parts)
    total = torch.cat([part.reshape(-1) for part in parts])
    with _rank_lost():
        dist.all_reduce(total)
    pieces = total.split([part.numel() for part in parts])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def all_ranks(holds: Tensor | bool) -> bool:
    """True where ``holds``, one truth value, is true on every rank."""
    if world_size() == 1:
        return bool(holds)
    return not all_sum(torch.as_tensor(holds).logical_not().to(torch.float32))


def gather_counts(count: int, device: torch.device) -> list[int]:
    """``count`` of every rank, in their order; summed on ``device``."""
    if world_size() == 1:
        return [count]
    each = torch.zeros(world_size(), dtype=torch.int64, device=device)
    each[rank()] = count
    return all_sum(each).tolist()


def gather(value: T) -> list[T]:
    """``value`` of every rank, in their order. Values are pickled, so they must be plain."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    with _rank_lost():
        dist.all_gather_object(values, value)
    return values


def broadcast_theta(theta: Tensor, before: Tensor) -> Tensor:
    """Rank 0's theta (P,), for every rank to continue with; ``before`` is their common theta before the update.

    All ranks solve with the same sums, but processors of different make round differently. Raises RuntimeError where a
    rank differs by more than rounding explains: some sum has then not passed through here.
    """
    if world_size() == 1:
        return theta
    first = theta.clone()
    with _rank_lost():
        dist.broadcast(first, 0)
    off, moved = (theta - first).norm(), (first - before).norm()
    if not all_ranks(~(off > _FAITHFUL * moved)):
        raise RuntimeError(
            f"the ranks have computed different updates: rank {rank()} is off by {float(off):.3g} after a move of "
            f"{float(moved):.3g}. A part forms a mean over its own samples only; see rlopt/parallel/collectives.py"
        )
    return first


@contextmanager
def _rank_lost() -> Iterator[None]:
    """Turn the error that torch raises when another rank does not answer into RankLost."""
    try:
        yield
    except RuntimeError as error:
        message = _SOURCE.sub("", str(error).partition(". This is")[0].partition("\n")[0])
        raise RankLost(f"another rank has ended or cannot be reached ({message})") from error
