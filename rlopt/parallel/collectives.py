"""The one place where a sum over this rank's samples becomes a sum over all ranks' samples.

Every mean in rlopt is ``sum_b w_b f_b / sum_b w_b``. Samples divide their weights by the global sum once
(`samples.Samples.share`), so a mean is a plain sum of ``share_b f_b`` passed through `all_sum`, and ranks may hold
different numbers of samples. Nothing is squared, inverted or decomposed before it has passed through here.

What ranks decide they must decide alike, or one would wait for sums that another never brings: on numbers that have
been summed, which are the same to the bit on all of them, or by `all_ranks`. On one rank nothing here does anything.
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
_SOURCE = re.compile(r"^\[[^]]*\] *")  # of a message: the file and line of gloo that it is from
_FAITHFUL = 0.1  # of an update: ranks whose results differ by more did not compute the same thing


def world_size() -> int:
    """Number of ranks that share this update; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def local_slice(count: int) -> range:
    """Which of ``count`` things, numbered over all ranks, are this rank's: equal consecutive parts.

    Environments are shared out by this, so a global index is ``own(num_envs)[local index]``.
    """
    each = count // world_size()
    return range(rank() * each, (rank() + 1) * each)


def all_sum(x: Tensor) -> Tensor:
    """Sum of ``x`` over ranks, a new tensor; ``x`` itself on one rank."""
    if world_size() == 1:
        return x
    total = x.clone(memory_format=torch.contiguous_format)
    with _others():
        dist.all_reduce(total)
    return total


def all_sums(*parts: Tensor) -> list[Tensor]:
    """`all_sum` of several tensors of one type at the price of one."""
    if world_size() == 1:
        return list(parts)
    total = torch.cat([part.reshape(-1) for part in parts])
    with _others():
        dist.all_reduce(total)
    pieces = total.split([part.numel() for part in parts])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def all_ranks(holds: Tensor | bool) -> bool:
    """Whether ``holds``, one truth value, is true on every rank."""
    if world_size() == 1:
        return bool(holds)
    return not all_sum(torch.as_tensor(holds).logical_not().to(torch.float32))


def counts(here: int, device: torch.device) -> list[int]:
    """``here`` of every rank, in their order."""
    if world_size() == 1:
        return [here]
    each = torch.zeros(world_size(), dtype=torch.int64, device=device)
    each[rank()] = here
    return all_sum(each).tolist()


def gather(thing: T) -> list[T]:
    """``thing`` of every rank, in their order; plain values that pickle can carry."""
    if world_size() == 1:
        return [thing]
    things: list[Any] = [None] * world_size()
    with _others():
        dist.all_gather_object(things, thing)
    return things


def adopted(theta: Tensor, before: Tensor) -> Tensor:
    """Rank 0's theta (P,), which all go on from; ``before`` is where all of them came from.

    Solvers work on the same sums, but processors of different make round differently. Raises RuntimeError where a
    rank is farther off than rounding explains: then some sum has not passed through here.
    """
    if world_size() == 1:
        return theta
    first = theta.clone()
    with _others():
        dist.broadcast(first, 0)
    off, moved = (theta - first).norm(), (first - before).norm()
    if not all_ranks(~(off > _FAITHFUL * moved)):
        raise RuntimeError(
            f"the ranks have computed different updates: rank {rank()} is off by {float(off):.3g} after a move of "
            f"{float(moved):.3g}. A part forms a mean over its own samples only; see rlopt/parallel/collectives.py"
        )
    return first


@contextmanager
def _others() -> Iterator[None]:
    """What torch raises when another rank does not answer becomes RankLost."""
    try:
        yield
    except RuntimeError as error:
        said = _SOURCE.sub("", str(error).partition(". This is")[0].partition("\n")[0])
        raise RankLost(f"another rank has ended or cannot be reached ({said})") from error
