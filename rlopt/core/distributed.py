"""The one place where a sum over this rank's samples becomes a sum over all ranks' samples.

Every mean in rlopt is ``sum_b w_b f_b / sum_b w_b``. Samples divide their weights by the global sum once
(`samples.Samples.share`), so a mean is a plain sum of ``share_b f_b`` passed through `all_sum`, and ranks may hold
different numbers of samples. Nothing is squared, inverted or decomposed before it has passed through here.
"""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor


def ranks() -> int:
    """Number of ranks that share this update; 1 without torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if ranks() > 1 else 0


def all_sum(x: Tensor) -> Tensor:
    """Sum of ``x`` over ranks (in place when there is more than one); the identity on one rank."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(x)
    return x
