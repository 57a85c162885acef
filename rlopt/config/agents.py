"""Agents: what a game of several agents asks of the other choices, with what to type instead."""

from __future__ import annotations

from rlopt.config.choices import stands_for
from rlopt.config.exploring import check_exploration
from rlopt.config.options import RunConfig
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size


def check_agents(config: RunConfig) -> None:
    """A batch is made of whole steps of all copies, and self-play is for one process. Raises UserError."""
    if "env.agents" in config.typed:
        raise UserError("env.agents follows from the game and cannot be chosen")
    if config.self_play.every:
        _check_self_play(config)
    if config.env.agents:
        _check_counts(config, len(config.env.learners[0]))


def _check_counts(config: RunConfig, agents: int) -> None:
    """Copies, ranks, workers and batch must divide into one another; dead agents leave no rows that some parts need."""
    rows, ranks, batch = config.env.num_envs, world_size(), config.batch_size
    copies = rows // agents
    if copies % ranks:
        raise UserError(
            f"env.num_envs counts the copies of the game on all {ranks} ranks and must be a multiple of that; got "
            f"{copies}; try env.num_envs={-(-copies // ranks) * ranks}"
        )
    if batch % rows:
        raise UserError(
            f"batch_size must be a multiple of {copies} copies of the game x {agents} learning agents = {rows} rows; "
            f"got {batch}; try batch_size={-(-batch // rows) * rows}"
        )
    if 1 < config.processes > copies // ranks:
        raise UserError(
            f"workers={config.workers} are more than the {copies // ranks} copies of the game they would share"
        )
    check_exploration(config)
    if config.reuse.batches > 1:
        raise UserError("reuse.batches weighs whole batches, and agents that end leave gaps; set reuse.batches=1")
    if config.compatible:
        raise UserError(
            f"critic={stands_for(config.compatible)} reads whole batches, and agents that end leave gaps; choose "
            "critic=mlp and a preset other than nac and enac"
        )


def _check_self_play(config: RunConfig) -> None:
    """One process collects: it has the opponents' policy, which remembers nothing."""
    every = f"self_play.every={config.self_play.every}"
    if world_size() > 1 or config.processes > 1:
        raise UserError(f"{every} is for one process; leave out workers and torchrun")
    if config.memory_sizes[""]:
        raise UserError(f"{every} takes no policy with memory yet; choose policy=mlp")
    if (
        config.env.agents
        and config.self_play.side == "alternate"
        and config.env.num_envs == len(config.env.learners[0])
    ):
        raise UserError(
            f"{every} with self_play.side=alternate needs two copies of the game; type env.num_envs=2 or more"
        )
