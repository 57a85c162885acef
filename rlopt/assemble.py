"""From a resolved configuration to a run: every part made, every combination checked, nothing created on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlopt.catalogue import choices
from rlopt.construct import construct, construct_part, convert, options
from rlopt.core.averaging import Averaging
from rlopt.core.checks import at_least_one, between, check, non_negative
from rlopt.core.heads import Head, Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.network import Network
from rlopt.core.parts import State
from rlopt.core.update import Update
from rlopt.errors import UserError
from rlopt.fit import check_first_step, check_fit
from rlopt.policy.networks import MLP
from rlopt.policy.normaliser import ObservationNormaliser, RewardScaler
from rlopt.rollout.collector import Collector
from rlopt.rollout.environments import Environment
from rlopt.rollout.seeding import Purpose, torch_generator
from rlopt.rollout.spaces import Gaussian, head_for, observation_size
from rlopt.run.agent import Agent, Returns
from rlopt.run.recorder import Recorder
from rlopt.run.trainer import Plan, Saving, Trainer

Config = Mapping[str, Any]
_PARTS = ("objective", "metric", "solver", "damping", "step")


@dataclass(frozen=True)
class Common:
    """The options at the top of the configuration."""

    algo: str
    seed: int
    total_steps: int
    batch_size: int
    gamma: float
    gae_lambda: float
    state_weighting: str
    max_bad_updates: int
    device: str
    dtype: str
    run_dir: str | None
    updates: int | None

    def __post_init__(self) -> None:
        check(self.seed >= 0, "seed", "a whole number, 0 or above", self.seed)
        at_least_one("total_steps", self.total_steps)
        at_least_one("batch_size", self.batch_size)
        between("gamma", self.gamma, 0, 1)
        between("gae_lambda", self.gae_lambda, 0, 1)
        weightings = ("uniform", "discounted")
        check(self.state_weighting in weightings, "state_weighting", "uniform or discounted", self.state_weighting)
        at_least_one("max_bad_updates", self.max_bad_updates)
        check(self.dtype in ("float32", "float64"), "dtype", "float32 or float64", self.dtype)

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.float64 if self.dtype == "float64" else torch.float32

    def torch_device(self) -> torch.device:
        """The device, or UserError where it is absent."""
        try:
            device = torch.device(self.device)
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            there = "cpu" + (", cuda" if torch.cuda.is_available() else "")
            raise UserError(f"device={self.device} is not available here; there is {there}") from error
        return device


@dataclass(frozen=True)
class Setup:
    """An environment, the agent for it, and the agent's state."""

    common: Common
    environment: Environment
    agent: Agent
    state: State


def trainer(config: Config) -> Trainer:
    """The run that ``config`` describes. Raises UserError before anything is written."""
    start = setup(config)
    common, environment, agent = start.common, start.environment, start.agent
    if common.batch_size % environment.num_envs:
        good = max(common.batch_size // environment.num_envs, 1) * environment.num_envs
        raise UserError(
            f"batch_size must be a multiple of env.num_envs={environment.num_envs}; got {common.batch_size}; "
            f"try batch_size={good}"
        )
    saving = _saving(options(config, "checkpoint"))
    episodes = convert(options(config, "evaluation", "episodes")["episodes"], int, "evaluation.episodes")
    if episodes < 0:
        raise UserError(f"evaluation.episodes must be 0 or above; got {episodes}")
    run_dir = _run_dir(common, environment)
    plan = Plan(common.algo, common.seed, common.total_steps, common.max_bad_updates, episodes, saving, run_dir)

    steps = common.batch_size // environment.num_envs
    collector = Collector(environment.make_vector(), agent.head, steps, common.seed, common.torch_dtype)
    return Trainer(
        plan, environment, agent, collector, start.state, torch_generator(common.seed, Purpose.MINIBATCHES),
        lambda: _open(run_dir, config),
    )  # fmt: skip


def setup(config: Config, device: torch.device | None = None) -> Setup:
    """What acts and learns, on ``device`` or on that of the configuration, before the first rollout."""
    common = _common(config)
    device = device or common.torch_device()
    environment = construct(Environment, options(config, "env"), "env")
    probe = environment.make()
    try:
        agent, networks = _agent(config, common, probe.observation_space, probe.action_space, device)
        size = observation_size(probe.observation_space)
    finally:
        probe.close()
    thetas = [n.layout.flatten(n.module, h.initial_constants()).to(common.torch_dtype) for n, h in networks]
    return Setup(common, environment, agent, agent.init(thetas[0], thetas[1], size, environment.num_envs))


def _agent(
    config: Config, common: Common, observations: Any, actions: Any, device: torch.device
) -> tuple[Agent, list[tuple[Network, Head]]]:
    size = observation_size(observations)
    network_names = ("hidden", "activation", "bias", "gain", "last_gain")
    network_options = options(config, "policy", *network_names)
    gaussian = construct(Gaussian, options(config, "policy", "scale", "initial_sigma", "squash"), "policy")
    head = _named("policy", lambda: head_for(actions, gaussian))
    critic_options = options(config, "critic", *network_names)
    variance = convert(options(config, "critic", "variance")["variance"], float, "critic.variance")
    value_head = _named("critic", lambda: Value(variance))
    advantages = options(config, "advantages", "normalise", "recompute")

    built: list[tuple[Network, Head]] = []
    for where, values, h, purpose in (
        ("policy", network_options, head, Purpose.ACTOR_WEIGHTS),
        ("critic", critic_options, value_head, Purpose.CRITIC_WEIGHTS),
    ):
        mlp = construct(MLP, values, where)
        module = mlp.build(size, h.network_outputs, torch_generator(common.seed, purpose))
        built.append((Network(module.to(common.torch_dtype), h.constants), h))
    returns = Returns(
        gamma=common.gamma,
        gae_lambda=common.gae_lambda,
        discounted_states=common.state_weighting == "discounted",
        normalise=convert(advantages["normalise"], bool, "advantages.normalise"),
        recompute=convert(advantages["recompute"], bool, "advantages.recompute"),
    )
    agent = Agent(
        head=head,
        actor=learner(config, *built[0], where=""),
        critic=learner(config["critic"], *built[1], where="critic."),
        observations=_switch(ObservationNormaliser, config, "observations", "normalise"),
        rewards=_switch(RewardScaler, config, "rewards", "scale"),
        returns=returns,
        averaging=construct(Averaging, options(config, "averaging"), "averaging"),
        device=device,
    )
    return agent, built


def learner(config: Config, network: Network, head: Head, where: str) -> Learner:
    """The update of one network from its groups in ``config``; combinations that cannot work are refused."""
    values = {group: options(config, group, where=where) for group in (*_PARTS, "schedule")}
    parts = {group: construct_part(values[group], f"{where}{group}") for group in _PARTS}
    names = {group: _name(values[group]) for group in parts}
    check_fit(parts, names, where)
    if (names["objective"] == "value") != isinstance(head, Value):
        able = ["value"] if isinstance(head, Value) else [name for name in choices("objective") if name != "value"]
        raise UserError(
            f"{where}objective={names['objective']} is for the {'policy' if isinstance(head, Value) else 'critic'}; "
            f"choose {' or '.join(f'{where}objective={name}' for name in able)}"
        )
    if getattr(parts["solver"], "needs_chain", False) and network.plan is None:
        raise UserError(
            f"{where}solver={names['solver']} needs tanh, relu, elu or sigmoid; or choose {where}solver=kfac"
        )
    update = Update(network=network, head=head, **parts)
    try:
        parts["step"].advance(parts["step"].init(torch.zeros(1)))  # a scheduler looks at its options when it moves
    except (TypeError, ArithmeticError) as error:
        raise UserError(f"{where}scheduler cannot move by {dict(values['step'])}: {error}") from error
    schedule = construct(Schedule, values["schedule"], f"{where}schedule")
    if schedule.minibatch is not None and parts["step"].whole_batch:
        raise UserError(
            f"{where}step={names['step']} measures on the whole batch and cannot take minibatches; "
            f"add {where}schedule=whole_batch, or choose {where}step=trust_region"
        )
    check_first_step(parts["metric"], head, schedule, where)
    return Learner(update, schedule)


def _name(part: Config) -> str:
    """The choice's name, that of the module its class is in."""
    return str(part["_target_"]).split(".")[-2]


def _common(config: Config) -> Common:
    values = {name: config[name] for name in Common.__dataclass_fields__ if name in config}
    try:
        return construct(Common, values, "")
    except UserError as error:
        raise UserError(str(error).removeprefix(".")) from error


def _saving(values: Config) -> Saving:
    saving = construct(Saving, values, "checkpoint")
    try:
        if saving.every_updates is not None:
            at_least_one("every_updates", saving.every_updates)
        if saving.every_seconds is not None:
            non_negative("every_seconds", saving.every_seconds)
        at_least_one("keep", saving.keep)
    except ValueError as error:
        raise UserError(f"checkpoint.{error}") from error
    return saving


def _switch(cls: type[Any], config: Config, where: str, switch: str) -> Any:
    """A normaliser whose ``enabled`` is spelled ``switch`` in the configuration."""
    values = options(config, where, switch, "clip")
    convert(values[switch], bool, f"{where}.{switch}")
    return construct(cls, {"enabled": values[switch], "clip": values["clip"]}, where)


def _named(where: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ValueError as error:
        raise UserError(f"{where}.{error}") from error


def _run_dir(common: Common, environment: Environment) -> Path:
    if common.run_dir is not None:
        chosen = Path(common.run_dir).expanduser()
        if chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
            raise UserError(f"run_dir={chosen} is in use; give another, or remove it first")
        return chosen
    stamp = time.strftime("%Y%m%d-%H%M%S")
    base = Path("runs") / f"{common.algo}-{environment.name.replace('/', '-')}-s{common.seed}-{stamp}"
    free, count = base, 1
    while free.exists():
        count += 1
        free = base.with_name(f"{base.name}-{count}")
    return free


def _open(run_dir: Path, config: Config) -> Recorder:
    """Create the run directory, with the configuration in it, and the recorder."""
    from rlopt.build import to_yaml

    text = to_yaml(dict(config))
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(text)
    except OSError as error:
        raise UserError(f"run_dir={run_dir} cannot be written: {error}") from error
    return Recorder(run_dir, config, text)
