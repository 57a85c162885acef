"""Factory: from a checked RunConfig to a run. Fails by the environment and by memory alone; creates nothing on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import torch

from rlopt.config import check_config, fitting
from rlopt.config.choices import stands_for
from rlopt.config.memory import LOWER, check_memory
from rlopt.config.networks import PolicyOptions
from rlopt.config.options import OwnCritic, RunConfig, SharedCritic, UpdateOptions
from rlopt.core.heads import Categorical, Head, Joint
from rlopt.core.learner import Learner
from rlopt.core.network import Network
from rlopt.core.objectives.joint import JointObjective
from rlopt.core.parts import State
from rlopt.core.update import Update
from rlopt.envs.observations import (
    describe_space,
    image,
    indicators,
    mask_size,
    may_be_pictures,
    observation_size,
    pixels,
    unmasked,
)
from rlopt.envs.space_trees import to_tree
from rlopt.envs.spaces import head_for, is_continuous, is_discretised, mask_counts
from rlopt.envs.spec import EnvSpec
from rlopt.envs.tensor import only_tensors
from rlopt.envs.tensor.protocol import TensorEnvs, saves
from rlopt.envs.trial import NEW_EPISODES
from rlopt.envs.wrappers import CheckedEnv, describe_normalisers
from rlopt.errors import UserError
from rlopt.evaluation import video
from rlopt.loggers import console, trackers
from rlopt.parallel.collectives import local_slice
from rlopt.parallel.ranks import is_first_rank, local_device
from rlopt.policy.normalisers import ObservationNormaliser
from rlopt.rollout.collector import Collector
from rlopt.rollout.recorded import cuda_graph
from rlopt.rollout.seeding import Purpose, torch_generator
from rlopt.rollout.tensors import TensorCollector
from rlopt.rollout.workers import Workers
from rlopt.training.agent import Agent
from rlopt.training.compatible_critic import CompatibleEstimator
from rlopt.training.trainer import Trainer

if TYPE_CHECKING:
    from rlopt.envs.masks import MaskedEnv
    from rlopt.training.exploring import Explorer

_TOO_LARGE = re.compile("allocate|size calculation overflow|too large|index-sized")  # errors of torch and Python


@dataclass(frozen=True)
class Setup:
    """An environment, the agent for it, and the agent's state before the first rollout."""

    config: RunConfig
    observations: gym.Space
    actions: gym.Space
    agent: Agent
    state: State
    warnings: tuple[str, ...]  # what is to be said of the environment before a run
    spaces: dict[str, Any] | None  # as the environment has them, for a checkpoint


def build(
    config: RunConfig, run_dir: Path, resumed: bool = False, begin: Callable[[Setup], Setup] = lambda start: start
) -> Trainer:
    """The run that ``config`` describes, to be written to ``run_dir``. Raises UserError before anything is written.

    A run that is not ``resumed`` from a checkpoint starts from what ``begin`` makes of its setup.
    """
    with explain_lack_of_memory("the run", LOWER), ExitStack() as undo:
        config.env.try_constructor()
        device, tensors, stand_in = select_device(config.device), None, None
        if only_tensors(config.env.id) and config.env.as_tensors:  # some can be made only once
            tensors = _make_tensors(config, device)
            undo.callback(tensors.close)
            stand_in = replace(config.env, stand_in=(tensors.observation_space, tensors.action_space))
        start = set_up(config, device, not resumed, stand_in)
        config = start.config
        if not resumed:
            start = begin(start)
        if config.record.video_steps is not None:
            video.check(config.env)
        if config.record.tracker is not None:
            trackers.check(config.record.tracker)
        if may_be_pictures(start.observations) and is_first_rank():
            console.info(
                f"rlopt: observations, {describe_space(start.observations)}, are taken as plain numbers; for a policy "
                "that sees them as images type policy=nature_cnn critic=nature_cnn"
            )
        if is_discretised(start.actions) and is_first_rank():
            console.info("rlopt: actions that are whole numbers of a Box are drawn as categories, one for each value")
        trial = config.env.try_to_continue()
        said = [*start.warnings, *([f"{config.env.id} {trial.warning}"] if trial.warning else [])]
        for warning in said if is_first_rank() else ():
            console.info(f"rlopt: {warning}")
        minibatches = torch_generator(config.seed, Purpose.MINIBATCHES)
        collector = _collector(start, trial.replays, tensors)
        undo.pop_all()
        return Trainer(config, run_dir, start.agent, collector, start.state, minibatches, start.spaces)


@contextmanager
def explain_lack_of_memory(what: str, advice: str) -> Iterator[None]:
    """Within, an error for lack of memory becomes a UserError with ``advice``."""
    try:
        yield
    except (MemoryError, RuntimeError, OverflowError) as error:
        if not isinstance(error, MemoryError) and not _TOO_LARGE.search(str(error)):
            raise
        raise UserError(f"{what} does not fit into memory; {advice}") from error


def _make_tensors(config: RunConfig, device: torch.device) -> TensorEnvs:
    """The environments of this rank, as tensors on ``device``."""
    local = replace(config.env, num_envs=len(local_slice(config.env.num_envs)))
    return local.make_tensors(device, getattr(torch, config.dtype))


def _collector(start: Setup, replays: bool, tensors: TensorEnvs | None) -> Collector | Workers | TensorCollector:
    """Collects rollouts of this rank's environments, in this process or in workers; of ``tensors`` that were made."""
    config, environment, head = start.config, start.config.env, start.agent.head
    mine = local_slice(environment.num_envs)
    local = replace(environment, num_envs=len(mine))
    steps, dtype = config.batch_size // environment.num_envs, getattr(torch, config.dtype)
    if environment.as_tensors:
        tensors = tensors or _make_tensors(config, start.agent.device)
        if not saves(tensors) and is_first_rank():
            console.info(f"rlopt: {environment.id} has no state() and restore(state): {NEW_EPISODES}")
        total, timeout = environment.num_envs, environment.timeout
        record = cuda_graph if environment.graph else None
        return TensorCollector(tensors, head, steps, config.seed, dtype, mine.start, total, timeout, record)
    if config.processes == 1:
        envs = local.make_vector(first=mine.start, like=(start.observations, start.actions))
        timeout = environment.timeout if environment.steps_by != "envpool" else None  # which has threads of its own
        if config.self_play.every:
            from rlopt.rollout.self_play import FrozenOpponents

            every, spaces = config.self_play.every, (start.observations, start.actions)
            envs.opponents = FrozenOpponents(head, *spaces, every, config.seed, dtype)  # type: ignore[union-attr]
        return Collector(
            envs, head, steps, config.seed, dtype, mine.start, environment.num_envs, timeout, replays,
            background=environment.in_background, memory=start.agent.actor.update.network.memory, noise=config.noise,
        )  # fmt: skip
    return Workers(
        local, start.observations, start.actions, start.agent.policy(start.state), head, steps, config.seed,
        config.processes, mine.start, environment.num_envs, replays, config.noise,
    )  # fmt: skip


def set_up(
    config: RunConfig,
    device: torch.device | None = None,
    looks_for_mask: bool = False,
    stand_in: EnvSpec | None = None,
) -> Setup:
    """The environment, the agent and its first state, on ``device`` or on the configuration's.

    With ``looks_for_mask`` env.mask=auto becomes info where the environment gives masks in that way. ``stand_in`` has
    the spaces of an environment of a registered id, which is then not made.
    """
    device = device or select_device(config.device)
    with closing((stand_in or config.env).make()) as probe:
        agents = getattr(probe.unwrapped, "agent_names", None)
        if stand_in is None and config.env.stand_in is None and not _suits(config, agents):
            return set_up(_with_agents(config, agents), device, looks_for_mask)
        if looks_for_mask and config.env.gives_mask(probe):
            return set_up(_with_mask_of_info(config, probe.action_space), device)
        check_memory(config, observation_size(probe.observation_space))
        agent = _agent(config, probe, device)
        spec = gym.registry[config.env.id] if stand_in else probe.spec
        space, actions = probe.observation_space, probe.action_space
        warnings, declared = tuple(describe_normalisers(probe)), _spaces(probe)
    dtype, width = getattr(torch, config.dtype), observation_size(space)
    thetas = {}
    for name, learner in agent.learners.items():
        prefix, network, head = "critic." if name == "critic" else "", learner.update.network, learner.update.head
        theta = network.layout.flatten(network.module, head.initial_constants()).to(dtype)
        options, inputs = config.updates_of[prefix], width if network.columns is None else len(network.columns)
        fitting.check_network(options, network, head, theta, inputs, config.samples, prefix)
        if name == "critic":
            fitting.check_targets(config, network, theta, inputs)
        thetas[name] = theta
    state = agent.init(thetas, width, config.env.num_envs)
    longest = spec.max_episode_steps if spec else None
    unchanged = None if image(space) else agent.observations.indicators
    fitting.check_environment(config, longest, is_continuous(actions), unchanged, width)
    return Setup(config, space, actions, agent, state, warnings, declared)


def _spaces(env: gym.Env) -> dict[str, Any] | None:
    """The trees of the spaces that the environment itself has, within rlopt's wrappers; None where one has none."""
    while isinstance(env, gym.Wrapper) and type(env).__module__ in ("rlopt.envs.wrappers", "rlopt.envs.masks"):
        env = env.env
    trees = {"observations": to_tree(env.observation_space), "actions": to_tree(env.action_space)}
    return None if None in trees.values() else trees


def _suits(config: RunConfig, agents: tuple[str, ...] | None) -> bool:
    """Whether the configuration is for these agents of a game; None: for one agent. Raises UserError."""
    for_games = {"self_play.every": config.self_play.every, "env.agent_index": config.env.agent_index}
    if agents is None and (typed := [f"{name}={value}" for name, value in for_games.items() if value]):
        raise UserError(f"{typed[0]} is for games of several agents; {config.env.id} has one")
    return agents == config.env.agents


def _with_agents(config: RunConfig, agents: tuple[str, ...] | None) -> RunConfig:
    """The configuration for a game of these agents, to be recorded. Raises UserError where it does not suit them."""
    plain = {**config.plain, "env": {**config.plain["env"], "agents": agents and list(agents)}}
    found = check_config(plain, tuple(config.typed))
    rows, copies = found.env.num_envs, plain["env"]["num_envs"]
    if agents and is_first_rank():
        console.info(
            f"rlopt: {config.env.id} has {len(agents)} agents; {copies} copies x {rows // copies} that learn = {rows} "
            f"rows, and a batch of {found.batch_size:,} transitions is {found.batch_size // rows} steps of each"
        )
    return found


def _with_mask_of_info(config: RunConfig, actions: gym.Space) -> RunConfig:
    """The configuration with env.mask=info, to be recorded."""
    if mask_counts(actions) is not None:  # others are refused when the environment is made
        console.info(
            f"rlopt: {config.env.id} gives info['action_mask'], and takes no action that this forbids; "
            "to leave the mask out type env.mask=none"
        )
    plain = {**config.plain, "env": {**config.plain["env"], "mask": "info"}}
    return replace(config, env=replace(config.env, mask="info"), plain=plain)


def select_device(name: str) -> torch.device:
    """The device of this process. Raises UserError where it is not there."""
    name = local_device(name)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        there = "cpu" + (f", cuda ({gpus} of them)" if gpus else "")
        raise UserError(f"device={name} is not available here; there is {there}") from error
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def _agent(config: RunConfig, probe: CheckedEnv | MaskedEnv, device: torch.device) -> Agent:
    head = _named("policy", lambda: head_for(probe.action_space, config.policy.head))
    if mask_size(probe.observation_space) and isinstance(head, Categorical):
        head = replace(head, masked=True)
    by_minibatch = config.advantages.normalise == "minibatch"
    space, critic, compatible, trace = probe.observation_space, None, None, config.gamma * config.gae_lambda
    if isinstance(config.critic, SharedCritic):
        joint = Joint(head, config.critic.variance)
        network = _network(config, "policy", config.policy, joint, space)
        weight = config.critic.value_weight
        shared = replace(config.actor, objective=JointObjective(config.actor.objective, weight))
        actor = _learner(shared, network, joint, trace, by_minibatch)
    else:
        network = _network(config, "policy", config.policy, head, space)
        actor = _learner(config.actor, network, head, trace, by_minibatch)
        critic, compatible = _critic(config, config.critic, space)
    normalises = config.observations.normalise and not image(space)
    size, seen = observation_size(space), unmasked(space)
    unchanged = (*indicators(probe.declared), *range(size - mask_size(space), size))
    observations = ObservationNormaliser(normalises, config.observations.clip, unchanged, pixels(seen), size)
    explorer = _explorer(config, space, device) if config.exploration is not None else None
    return Agent(config, head, actor, critic, compatible, observations, device, explorer)


def _explorer(config: RunConfig, space: gym.Space, device: torch.device) -> Explorer:
    """What makes intrinsic rewards, with a critic like the run's own."""
    from rlopt.training.exploring import Explorer  # few runs have one

    assert isinstance(config.critic, OwnCritic) and config.exploration is not None
    if image(space):
        raise UserError(
            f"exploration={stands_for(config.exploration)} sees numbers, and the observations are images, "
            f"{image(space)}; set exploration=null, or put them into a Dict, whose pixels are numbers like any others"
        )
    critic, dtype = config.critic, getattr(torch, config.dtype)
    network = _network(config, "critic", critic, critic.head, space, Purpose.INTRINSIC_WEIGHTS)
    update = UpdateOptions.parse(config.plain["critic"], "critic.")  # a step holds an optimizer of its own
    learner = _learner(update, network, critic.head)
    theta = network.layout.flatten(network.module, critic.head.initial_constants()).to(dtype)
    generator, size = torch_generator(config.seed, Purpose.EXPLORATION), observation_size(unmasked(space))
    return Explorer(config.exploration.of(size, dtype, device, generator), learner, theta, config.gae_lambda, device)


def _critic(config: RunConfig, critic: OwnCritic, space: gym.Space) -> tuple[Learner, CompatibleEstimator | None]:
    network = _network(config, "critic", critic, critic.head, space)
    learner = _learner(critic.update, network, critic.head)
    if critic.compatible is None:
        return learner, None
    return learner, CompatibleEstimator(critic.compatible, network, config.gamma)


def _network(
    config: RunConfig,
    where: str,
    options: PolicyOptions | OwnCritic,
    head: Head,
    space: gym.Space,
    purpose: Purpose | None = None,
) -> Network:
    """The network of the policy or the critic, from observations to ``head``'s outputs.

    The policy's is masked where ``space`` has a mask. ``purpose`` is of its weights, where it is a further one.
    """
    of_policy, dtype, factory = where == "policy", getattr(torch, config.dtype), options.network
    purpose = purpose or (Purpose.ACTOR_WEIGHTS if of_policy else Purpose.CRITIC_WEIGHTS)
    generator = torch_generator(config.seed, purpose)
    seen, unread, columns = unmasked(space), mask_size(space), None
    if (keys := options.keys) is not None:
        from rlopt.policy.parts import narrowed  # few runs have keys

        size = observation_size(seen)
        seen, own = _named(where, lambda: narrowed(seen, keys))
        columns = torch.cat([own, torch.arange(size, size + unread)])
    module: Any
    if not hasattr(factory, "sees"):
        from rlopt.policy import own  # few runs have one

        name = f"{where}={getattr(factory, 'function', None) or stands_for(factory)}"
        module = own.build(name, factory, seen, head.network_outputs, generator, dtype)
    else:
        fitting.check_sees(where, factory, seen)
        module = _named(where, lambda: factory.build(seen, head.network_outputs, generator)).to(dtype)
    last = [p for p in module.parameters() if p.ndim == 2 and len(p) == head.network_outputs]
    if last:
        with torch.no_grad():
            _named(where, lambda: head.prepare(last[-1]))
    if hasattr(module, "sequence_length"):
        if unread:
            raise UserError(
                f"{where}: a network with memory takes no action masks yet; choose {where}=mlp, or add env.mask=none"
            )
        module.sequence_length = config.sequence_of("" if of_policy else "critic.")
    network = Network(module, head.constants, unread, unread > 0 and of_policy)
    network.columns = columns
    if of_policy:
        _named("init", lambda: network.freeze(config.init.freeze))
    return network


def _learner(
    options: UpdateOptions, network: Network, head: Head, trace: float = 0.0, normalise: bool = False
) -> Learner:
    o = options
    update = Update(
        network, head, o.objective, o.metric, o.solver, o.damping, o.scheduled_step, o.l2, o.estimator, trace
    )
    return Learner(update, o.schedule, normalise)


def _named(where: str, make: Callable[[], Any]) -> Any:
    """The result of ``make``. Its ValueErrors begin with an option's name, to which the group ``where`` is added."""
    try:
        return make()
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where}.{error}") from error
