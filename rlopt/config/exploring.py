"""Exploring: what intrinsic rewards ask of the other choices, with what to type instead."""

from __future__ import annotations

from rlopt.config.choices import stands_for
from rlopt.config.options import RunConfig, SharedCritic
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size


def check_exploration(config: RunConfig) -> None:
    """Intrinsic rewards have a critic like the run's own, which must be one network on its own samples.

    Raises UserError.
    """
    if config.exploration is None:
        return
    chosen = f"exploration={stands_for(config.exploration)}"
    if world_size() > 1:
        raise UserError(f"{chosen} learns in one process; run without torchrun, or set exploration=null")
    if isinstance(config.critic, SharedCritic) or config.compatible or config.memory_sizes["critic."]:
        raise UserError(
            f"{chosen} makes a second critic like the first, which must have a network of its own, without memory, and "
            "no compatible features; type critic=mlp"
        )
    if config.env.agents:
        raise UserError(f"{chosen} is for one agent; set exploration=null")
    if config.reuse.batches > 1:
        raise UserError(f"{chosen} adds advantages of the newest batch; set reuse.batches=1, or exploration=null")
