"""Sequences: what networks with memory ask of the other choices, with what to type instead where they do not get it."""

from __future__ import annotations

from rlopt.config.catalogue import instead_of
from rlopt.config.choices import stands_for
from rlopt.config.options import RunConfig, UpdateOptions
from rlopt.errors import UserError


def check_sequences(config: RunConfig) -> None:
    """Networks with memory learn from whole sequences, and not by every solver; others have no use for sequences.

    Raises UserError.
    """
    sizes = config.memory_sizes
    if config.compatible and any(sizes.values()):
        raise UserError(
            f"critic={stands_for(config.compatible)} reads every sample by itself, and a network with memory does not; "
            "choose another critic, or networks without memory"
        )
    for prefix, update in config.updates_of.items():
        option = f"{prefix}schedule.sequence"
        if sizes[prefix]:
            _check_length(config, update, option)
            _check_solver(update, prefix)
        elif option in config.typed:
            raise UserError(f"{option} has no effect: this network has no memory; policy=gru or critic=gru has one")


def _check_length(config: RunConfig, update: UpdateOptions, option: str) -> None:
    """A rollout and a minibatch must be made of whole sequences."""
    prefix, schedule = option.removesuffix("schedule.sequence"), update.schedule
    steps, length = config.batch_size // config.env.num_envs, config.sequence_of(prefix)
    size = min(schedule.minibatch or config.batch_size, config.batch_size)
    whole = [n for n in range(1, steps + 1) if steps % n == 0 and (size == config.batch_size or size % n == 0)]
    if length not in whole:
        near = min(whole, key=lambda n: abs(n - length))
        cut = "" if schedule.sequence == length else f", here the {length} steps of a whole rollout,"
        of = {f"batch_size / env.num_envs = {steps}": steps}
        if size != config.batch_size:
            of[f"{prefix}schedule.minibatch={size}"] = size
        raise UserError(
            f"{option}={schedule.sequence or 'null'}{cut} must divide "
            f"{' and '.join(name for name, n in of.items() if n % length)}; try {option}={near}"
        )


def _check_solver(update: UpdateOptions, prefix: str) -> None:
    if update.solver.requirements.reads_samples:
        refused, able = instead_of(update, prefix, lambda solver: not solver.requirements.reads_samples)
        raise UserError(
            f"{refused} reads each sample's own gradient layer by layer, which a "
            f"network with memory does not give. These can: {able}"
        )
