"""Which choices suit the sizes of networks and batches, and the environment: what `compatibility.check` cannot know."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.config.catalogue import instead_of
from rlopt.config.choices import PARTS, choices, parts, stands_for
from rlopt.config.compatibility import REMEDIES, advise
from rlopt.config.networks import parse_network
from rlopt.config.options import OwnCritic, RunConfig, UpdateOptions
from rlopt.config.saved import read_choice
from rlopt.config.sequences import check_sequences
from rlopt.core.heads import Head
from rlopt.core.network import Network, missing_layers
from rlopt.core.parts import ROOT, Solver
from rlopt.core.popart import can_preserve
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.samples import Samples
from rlopt.core.solvers.per_layer import rooted
from rlopt.core.tapes.mlp import is_chain
from rlopt.envs.agents.zoo import may_be_game
from rlopt.envs.spaces import HeadOptions
from rlopt.errors import UserError
from rlopt.policy.mlp import NetworkFactory


def check_network(
    update: UpdateOptions, network: Network, head: Head, theta: Tensor, inputs: int, batch: int, prefix: str
) -> None:
    """A network's parts must suit its structure and the sizes of theta (P,) and of the batch.

    Observations have ``inputs`` numbers. Raises UserError.
    """
    if update.solver.requirements.needs_chain and not is_chain(network.plan):
        refused, able = instead_of(update, prefix, lambda solver: not solver.requirements.needs_chain)
        raise UserError(f"{refused} needs a multilayer perceptron without layer normalisation; choose {able}")
    width = inputs + (1 + network.memory if network.memory else 0)  # of a row, see `policy.recurrent`
    if _reads_layers(update.solver) and (reason := missing_layers(network, theta, width)):
        refused, able = instead_of(update, prefix, lambda solver: not _reads_layers(solver))
        raise UserError(f"{refused}: {reason}; these need no such statistics: {able}")
    size = update.schedule.minibatch
    samples = batch if size is None or size >= batch else size + batch % size
    for group in PARTS:
        part = getattr(update, group)
        try:
            if check_size := part.requirements.check_size:
                check_size(len(theta))
            if check_samples := part.requirements.check_samples:
                factors = _count_factors(update, network, head, theta, theta.new_zeros(1, width))
                check_samples(factors, samples * update.metric.requirements.batches)
        except Incompatible as error:
            raise advise(error, group, stands_for(part), prefix) from error


def _reads_layers(solver: Solver) -> bool:
    return ROOT in solver.needs and not solver.requirements.root_alone


def check_targets(config: RunConfig, network: Network, theta: Tensor, inputs: int) -> None:
    """Targets are normalised where the critic's last layer can follow. Raises UserError."""
    if not isinstance(config.critic, OwnCritic) or not config.critic.targets.normalise:
        return
    if not can_preserve(network, theta, inputs + (1 + network.memory if network.memory else 0)):
        raise UserError(
            "critic.targets.normalise=true needs a critic whose last layer is an nn.Linear with a bias; choose "
            "critic=mlp critic.bias=true, or set critic.targets.normalise=false"
        )


@torch.no_grad()
def _count_factors(update: UpdateOptions, network: Network, head: Head, theta: Tensor, inputs: Tensor) -> int:
    """K, the number of factors that the metric has for each sample."""
    tape = network.tape(theta, inputs)
    z, one, actions = tape.outputs, torch.ones(1).to(tape.outputs), head.mode(tape.outputs)
    samples = Samples(inputs, actions, one, one, z, head.log_prob(z, actions))
    curvature, _ = update.metric.bind(update.metric.init(), tape, head, samples, update.objective)
    return len(rooted(curvature).factors())


def check_environment(
    config: RunConfig, longest: int | None, continuous: bool, normalised: Collection[int] | None, inputs: int
) -> None:
    """What only the environment can tell: the length of its episodes, its actions and its observations.

    ``longest`` is its time limit in steps, None without one; ``normalised`` are the numbers of the ``inputs`` of an
    observation that a normaliser leaves as they are, None for images. Raises UserError.
    """
    name, critic = config.env.id, config.compatible
    if may_be_game(config.env):
        check_sequences(config)
    steps = config.batch_size // config.env.num_envs
    if critic and critic.whole_episodes and longest and steps < longest:
        raise UserError(
            f"critic={stands_for(critic)} learns from whole episodes, of up to {longest} steps, and batch_size / "
            f"env.num_envs is {steps} steps of each environment; {REMEDIES[Remedy.LONGER_ROLLOUT]}"
        )
    of_boxes = config.typed & {f"policy.{field.name}" for field in fields(HeadOptions)}
    if of_boxes and not continuous:
        raise UserError(f"{min(of_boxes)} has no effect: it is of continuous actions, which {name} has not")
    if "observations.normalise" in config.typed and config.observations.normalise:
        if normalised is None:
            raise UserError(
                "observations.normalise=true has no effect on images, whose pixels are divided by their largest value"
            )
        if len(normalised) == inputs:
            raise UserError(
                f"observations.normalise=true has no effect: {name} shows one-hots and bits, which stay as they are"
            )


def check_sees(where: str, factory: NetworkFactory, space: gym.Space[Any]) -> None:
    """The network of the policy or the critic must take the environment's observations. Raises UserError."""
    try:
        factory.sees(space)
    except ValueError as error:
        known = [(n, parse_network(read_choice("policy", n), "policy")[0]) for n in choices("policy")]
        able = [name for name, network in known if _sees(network, space)]
        able = [name for name in able if name in parts("policy")] or able  # a variant only where nothing else serves
        instead = " or ".join(f"policy={name} critic={name}" for name in able if name in choices("critic"))
        raise UserError(f"{where}={stands_for(factory)}: {error}; choose {instead or 'another network'}") from error


def _sees(factory: NetworkFactory, space: gym.Space[Any]) -> bool:
    try:
        factory.sees(space)
    except ValueError:
        return False
    return True
