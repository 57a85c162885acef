"""Memory: an estimate of the least that a run takes, so that one that cannot fit is refused before it is made."""

from __future__ import annotations

import math
import os

from rlopt.config.options import RunConfig
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size

LOWER = "lower batch_size, env.num_envs, policy.hidden or critic.hidden"  # to make a run smaller
_BYTES_OF_ENVIRONMENT = 4096  # at least; most take far more


def check_memory(config: RunConfig, inputs: int) -> None:
    """Raise UserError where the least that a run needs, for observations of ``inputs`` numbers, is not there."""
    size = 8 if config.dtype == "float64" else 4
    two = config.processes > 1 or config.env.in_background  # one is learned from while the next is collected
    seen = 3 if config.env.as_tensors else 2  # raw and normalised, and of tensors what each step led to
    transitions = config.batch_size * (seen * inputs + 4) * size * (2 if two else 1)
    earlier = config.reuse.batches - 1  # batches, which are kept raw and normalised anew for every update
    transitions += earlier * config.batch_size * (2 * inputs + 4) * size
    needed = (transitions + config.env.num_envs * _BYTES_OF_ENVIRONMENT) / world_size() / 2**30
    there = memory() / 2**30
    if needed > there:
        raise UserError(
            f"the run does not fit into memory: batch_size={config.batch_size} transitions of {inputs} numbers and "
            f"env.num_envs={config.env.num_envs}{f' with reuse.batches={earlier + 1}' if earlier else ''} need "
            f"{needed:,.0f} GiB or more, and there are {there:,.0f}; {LOWER}{' or reuse.batches' if earlier else ''}"
        )


def memory() -> float:
    """Bytes of memory that this machine has; infinite where it does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
