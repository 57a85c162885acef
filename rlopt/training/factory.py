"""From a resolved configuration to a run: every part made, every combination checked, nothing created on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from rlopt.checkpoint.manager import CheckpointOptions
from rlopt.config.choices import PARTS, stands_for
from rlopt.config.compatibility import check_compatible, check_first_step, check_fit, check_sizes
from rlopt.config.options import Common, common_options
from rlopt.config.schema import construct, construct_part, convert, options
from rlopt.core.averaging import Averaging
from rlopt.core.checks import at_least_one, non_negative
from rlopt.core.heads import Head, Joint, Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.network import Network
from rlopt.core.objectives.joint import JointObjective
from rlopt.core.parts import COMPATIBLE, State
from rlopt.core.update import Update
from rlopt.envs.spaces import Gaussian, head_for, image, indicators, observation_size
from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError
from rlopt.evaluation import video as film
from rlopt.evaluation.episodes import MOST_EPISODES
from rlopt.parallel.collectives import local_slice, world_size
from rlopt.policy.normalisers import ObservationNormaliser, RewardScaler
from rlopt.rollout.collector import Collector
from rlopt.rollout.seeding import Purpose, torch_generator
from rlopt.rollout.workers import Workers
from rlopt.training.agent import Agent, Returns
from rlopt.training.compatible_critic import CompatibleEstimator
from rlopt.training.diagnostics import RecordOptions
from rlopt.training.networks import network
from rlopt.training.plan import Plan
from rlopt.training.run_directory import choose_run_directory
from rlopt.training.trainer import Trainer

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """An environment, the agent for it, and the agent's state."""

    common: Common
    environment: EnvSpec
    observations: gym.Space
    agent: Agent
    state: State


def trainer(config: Config, run_dir: Path | None = None) -> Trainer:
    """The run that ``config`` describes, to be written to ``run_dir``. Raises UserError before anything is written."""
    run_dir = run_dir or choose_run_directory(config)
    start = setup(config)
    common, environment, agent = start.common, start.environment, start.agent
    if environment.num_envs % world_size():
        good = -(-environment.num_envs // world_size()) * world_size()
        raise UserError(
            f"env.num_envs counts the environments of all {world_size()} ranks and must be a multiple of that; got "
            f"{environment.num_envs}; try env.num_envs={good}"
        )
    if common.batch_size % environment.num_envs:
        good = max(common.batch_size // environment.num_envs, 1) * environment.num_envs
        raise UserError(
            f"batch_size must be a multiple of env.num_envs={environment.num_envs}; got {common.batch_size}; "
            f"try batch_size={good}"
        )
    saving = _saving(options(config, "checkpoint"))
    evaluation = options(config, "evaluation", "episodes", "every_updates")
    episodes = convert(evaluation["episodes"], int, "evaluation.episodes")
    every = convert(evaluation["every_updates"], int | None, "evaluation.every_updates")
    if every is not None and (every < 1 or not episodes):
        raise UserError(
            f"evaluation.every_updates must be 1 or above, with evaluation.episodes above 0; got {every} and {episodes}"
        )
    if not 0 <= episodes <= MOST_EPISODES:
        raise UserError(f"evaluation.episodes must be 0 or above, at most {MOST_EPISODES:,}; got {episodes}")
    recording = construct(RecordOptions, options(config, "record"), "record")
    if recording.spectrum_every is not None and world_size() > 1:
        raise UserError("record.spectrum_every is for one process; leave it out, or run without torchrun")
    if recording.video_steps is not None:
        film.check(environment)
    plan = Plan(common.algo, common.seed, common.total_steps, common.max_bad_updates, episodes, every, saving,
                recording, run_dir, config)  # fmt: skip

    steps = common.batch_size // environment.num_envs
    collector = _collector(start, steps)
    return Trainer(plan, environment, agent, collector, start.state, torch_generator(common.seed, Purpose.MINIBATCHES))


def _collector(start: Setup, steps: int) -> Collector | Workers:
    """What collects ``steps`` transitions of every environment of this rank, here or in processes."""
    common, environment, head = start.common, start.environment, start.agent.head
    mine = local_slice(environment.num_envs)
    local = replace(environment, num_envs=len(mine))
    replays = environment.is_reproducible()
    if common.workers == 1:
        envs = local.make_vector(first=mine.start)
        timeout = environment.timeout if environment.backend == "sync" else None  # EnvPool has threads of its own
        return Collector(envs, head, steps, common.seed, common.torch_dtype, mine.start, environment.num_envs, timeout,
                         replays)  # fmt: skip
    if common.workers > len(mine):
        raise UserError(f"workers={common.workers} are more than the {len(mine)} environments they would share")
    if environment.backend != "sync":
        raise UserError(f"env.backend={environment.backend} has threads of its own; leave out workers")
    policy = start.agent.policy(start.state)
    return Workers(local, start.observations, policy, head, steps, common.seed, common.workers, mine.start,
                   environment.num_envs, replays)  # fmt: skip


def setup(config: Config, device: torch.device | None = None) -> Setup:
    """What acts and learns, on ``device`` or on that of the configuration, before the first rollout."""
    common = common_options(config)
    device = device or common.torch_device()
    environment = construct(EnvSpec, options(config, "env"), "env")
    probe = environment.make()
    try:
        agent = _agent(config, common, probe, device)
        space = probe.observation_space
        check_compatible(agent, common.batch_size // environment.num_envs, probe.spec)
    finally:
        probe.close()
    thetas = {name: _first_theta(learner.update).to(common.torch_dtype) for name, learner in agent.learners.items()}
    width = observation_size(space)
    for name, made in agent.learners.items():
        theta = thetas[name]
        where = "critic." if name == "critic" else ""
        check_sizes(made, theta, theta.new_zeros(1, width), common.batch_size, where)
    return Setup(common, environment, space, agent, agent.init(thetas, width, environment.num_envs))


def _agent(config: Config, common: Common, probe: gym.Env, device: torch.device) -> Agent:
    gaussian = construct(Gaussian, options(config, "policy", "scale", "initial_sigma", "squash"), "policy")
    head = _named("policy", lambda: head_for(probe.action_space, gaussian))
    variance = convert(options(config, "critic", "variance")["variance"], float, "critic.variance")
    value = _named("critic", lambda: Value(variance))

    def made(where: str, h: Head, purpose: Purpose) -> Network:
        generator = torch_generator(common.seed, purpose)
        return network(config, where, h, probe.observation_space, generator, common.torch_dtype)

    critic = compatible = None
    if "shared" in config["critic"]:
        if config["critic"]["shared"] is not True:
            raise UserError("critic.shared must be true; for a network of the critic's own choose critic=mlp")
        weight = convert(options(config, "critic", "value_weight")["value_weight"], float, "critic.value_weight")
        joint = Joint(head, variance)
        actor = learner(config, made("policy", joint, Purpose.ACTOR_WEIGHTS), joint, "")
        objective = _named("critic", lambda: JointObjective(actor.update.objective, weight))
        actor = Learner(replace(actor.update, objective=objective), actor.schedule)
    else:
        actor = learner(config, made("policy", head, Purpose.ACTOR_WEIGHTS), head, "")
        critic = learner(config["critic"], made("critic", value, Purpose.CRITIC_WEIGHTS), value, "critic.")
        if (given := options(config, "critic", "compatible")["compatible"]) is not None:
            compatible = CompatibleEstimator(
                construct_part(given, "critic.compatible"), critic.update.network, common.gamma
            )
    advantages = options(config, "advantages", "normalise", "recompute")
    returns = Returns(
        gamma=common.gamma,
        gae_lambda=common.gae_lambda,
        discounted_states=common.state_weighting == "discounted",
        normalise=convert(advantages["normalise"], bool, "advantages.normalise"),
        recompute=convert(advantages["recompute"], bool, "advantages.recompute"),
    )
    normaliser = _switch(ObservationNormaliser, config, "observations", "normalise", indicators=indicators(probe))
    return Agent(
        head=head,
        actor=actor,
        critic=critic,
        observations=replace(normaliser, enabled=normaliser.enabled and not image(probe.observation_space)),
        rewards=_switch(RewardScaler, config, "rewards", "scale"),
        returns=returns,
        averaging=construct(Averaging, options(config, "averaging"), "averaging"),
        device=device,
        compatible=compatible,
    )


def _first_theta(update: Update) -> torch.Tensor:
    return update.network.layout.flatten(update.network.module, update.head.initial_constants())


def learner(config: Config, network: Network, head: Head, where: str) -> Learner:
    """The update of one network from its groups in ``config``; combinations that cannot work are refused."""
    values = {group: options(config, group, where=where) for group in (*PARTS, "schedule")}
    parts = {group: construct_part(values[group], f"{where}{group}") for group in PARTS}
    names = {group: stands_for(values[group]["_target_"]) for group in parts}
    critic = config.get("critic") or {}  # the actor's; the critic's own configuration holds none
    compatible = frozenset({COMPATIBLE} if critic.get("compatible") else ())
    check_fit(parts, names, where, compatible)
    if getattr(parts["solver"], "needs_chain", False) and network.plan is None:
        raise UserError(
            f"{where}solver={names['solver']} needs an MLP of tanh, relu, elu or sigmoid; choose {where}solver=kfac"
        )
    schedule = construct(Schedule, values["schedule"], f"{where}schedule")
    if schedule.minibatch is not None and parts["step"].whole_batch:
        raise UserError(
            f"{where}step={names['step']} measures on the whole batch and cannot take minibatches; "
            f"add {where}schedule=whole_batch, or choose {where}step=trust_region"
        )
    if schedule.minibatch is not None and getattr(parts["metric"], "whole_batch", False):
        raise UserError(f"{where}metric={names['metric']} needs whole episodes; add {where}schedule=whole_batch")
    check_first_step(parts["metric"], head, schedule, where)
    l2 = _l2(config, where)
    return Learner(Update(network=network, head=head, l2=l2, **parts), schedule)


def _l2(config: Config, where: str) -> float:
    """Weight of the term in |theta|^2; none where a configuration is silent."""
    l2: float = convert(config.get("l2", 0.0), float, f"{where}l2")
    try:
        non_negative(f"{where}l2", l2)
    except ValueError as error:
        raise UserError(str(error)) from error
    return l2


def _saving(values: Config) -> CheckpointOptions:
    saving = construct(CheckpointOptions, values, "checkpoint")
    try:
        if saving.every_updates is not None:
            at_least_one("every_updates", saving.every_updates)
        if saving.every_seconds is not None:
            non_negative("every_seconds", saving.every_seconds)
        at_least_one("keep", saving.keep)
    except ValueError as error:
        raise UserError(f"checkpoint.{error}") from error
    return saving


def _switch(cls: type[Any], config: Config, where: str, switch: str, **given: Any) -> Any:
    """A normaliser whose ``enabled`` is spelled ``switch`` in the configuration."""
    values = options(config, where, switch, "clip")
    convert(values[switch], bool, f"{where}.{switch}")
    return construct(cls, {"enabled": values[switch], "clip": values["clip"]}, where, **given)


def _named(where: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ValueError as error:
        raise UserError(f"{where}.{error}") from error
