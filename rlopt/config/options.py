"""RunConfig: everything that a run is made of, parsed once from plain values.

Every part (a metric, a solver, a network's description, ...) is a frozen record of its options, so that parsing makes
the parts themselves. What is still open afterwards is decided by the environment alone: the sizes of observations and
actions. What the options mean stands beside their values in conf/.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import gymnasium as gym

from rlopt.config.choices import ACTOR_PARTS, PARTS, SHARED_CRITIC
from rlopt.config.extensions import own_environment, own_wrappers
from rlopt.config.groups import (
    AdvantageOptions,
    CheckpointOptions,
    EvaluationOptions,
    InitOptions,
    NoiseOptions,
    ObservationOptions,
    RecordOptions,
    ReuseOptions,
    RewardOptions,
    SelfPlayOptions,
    TargetOptions,
)
from rlopt.config.networks import PolicyOptions, parse_network, parse_policy, sees_images, take_keys
from rlopt.config.schema import construct, construct_part, convert, options, parameters, part_class
from rlopt.core.averaging import Averaging
from rlopt.core.checks import at_least_one, between, check, non_negative, positive
from rlopt.core.compatible.critic import CompatibleCritic
from rlopt.core.estimators.plain import Plain as PlainGradient
from rlopt.core.heads import Value
from rlopt.core.learner import Schedule
from rlopt.core.parts import Damping, Estimator, Metric, Solver, Step
from rlopt.core.problem import Objective
from rlopt.core.steps.scheduled import follow
from rlopt.envs.spaces import has_mask_key
from rlopt.envs.spec import EnvSpec
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size
from rlopt.parallel.processes import own_cores
from rlopt.policy.mlp import NetworkFactory

Plain = Mapping[str, Any]


@dataclass(frozen=True)
class UpdateOptions:
    """One network's update: theta <- theta + alpha (M + lambda I)^-1 g, and how often it is made."""

    objective: Objective
    metric: Metric
    solver: Solver
    damping: Damping
    step: Step
    schedule: Schedule
    l2: float  # >= 0; the objective loses l2 / 2 |theta|^2
    scheduled_step: Step  # the step itself, or with a rate and a radius that follow its scheduler
    estimator: Estimator = PlainGradient()  # a critic has no other

    @classmethod
    def parse(cls, plain: Plain, prefix: str) -> UpdateOptions:
        """From the groups in ``plain``, whose options' names begin with ``prefix``: nothing, or "critic."."""
        given = {group: options(plain, group, where=prefix) for group in (PARTS if prefix else ACTOR_PARTS)}
        scheduler = _own_scheduler(given["step"], prefix)
        parts = {group: construct_part(values, f"{prefix}{group}") for group, values in given.items()}
        schedule = construct(Schedule, options(plain, "schedule", where=prefix), f"{prefix}schedule")
        l2 = convert(plain.get("l2"), float, f"{prefix}l2")
        try:
            non_negative(f"{prefix}l2", l2)
            scheduled = parts["step"] if scheduler is None else follow(parts["step"], scheduler)
        except ValueError as error:
            raise UserError(f"{prefix}{str(error).removeprefix(prefix)}") from error
        return cls(**parts, schedule=schedule, l2=l2, scheduled_step=scheduled)


def _own_scheduler(step: dict[str, Any], prefix: str) -> dict[str, Any] | None:
    """Take the scheduler out of a step's options, where there is one and the step does not follow it itself."""
    if "scheduler" not in step or "scheduler" in parameters(part_class(step, f"{prefix}step")):
        return None
    scheduler = options(step, "scheduler", where=prefix)
    del step["scheduler"]
    return scheduler


@dataclass(frozen=True)
class OwnCritic:
    """A critic with a network and an update of its own."""

    network: NetworkFactory
    head: Value
    update: UpdateOptions
    compatible: CompatibleCritic | None  # a critic of the policy's score beside it: natural actor-critic
    targets: TargetOptions
    keys: tuple[str, ...] | None  # of a Dict observation, those that the network sees; None: all


@dataclass(frozen=True)
class SharedCritic:
    """A critic that is one more output of the policy's network, trained by the policy's update."""

    variance: float  # of the value head, squared units of the (scaled) return, > 0
    value_weight: float  # of the targets' log-likelihood in the objective, > 0

    def __post_init__(self) -> None:
        positive("variance", self.variance)
        positive("value_weight", self.value_weight)

    @property
    def head(self) -> Value:
        return Value(self.variance)


@dataclass(frozen=True)
class RunConfig:
    """A whole run. `parse` reads it, `config.compatibility.check` refuses what does not go together."""

    algo: str
    recipe: str | None  # the overrides for this algorithm on this environment that were taken up
    seed: int
    total_steps: int  # environment transitions
    batch_size: int  # transitions that are collected for an update, over all environments and ranks
    workers: int | Literal["auto"]  # processes that collect; 1: this one does
    gamma: float
    gae_lambda: float
    state_weighting: Literal["uniform", "discounted"]
    max_bad_updates: int | None
    updates: int | None
    device: str
    dtype: Literal["float32", "float64"]
    matmul_precision: Literal["highest", "high", "medium"]
    run_dir: str | None  # None: a folder of its own under runs/

    env: EnvSpec
    policy: PolicyOptions
    actor: UpdateOptions
    critic: OwnCritic | SharedCritic
    advantages: AdvantageOptions
    observations: ObservationOptions
    rewards: RewardOptions
    reuse: ReuseOptions
    noise: NoiseOptions
    self_play: SelfPlayOptions
    averaging: Averaging
    evaluation: EvaluationOptions
    checkpoint: CheckpointOptions
    record: RecordOptions
    init: InitOptions
    exploration: Any  # RND's options, of a module that few runs have; None: the environment's rewards alone

    typed: frozenset[str] = field(compare=False)  # full names of what the user typed: it may not be without effect
    plain: Plain = field(compare=False, repr=False)  # the values that this was parsed from, for config.yaml

    def __post_init__(self) -> None:
        check("\0" not in (self.run_dir or ""), "run_dir", "a path", self.run_dir)
        check(self.seed >= 0, "seed", "a whole number, 0 or above", self.seed)
        at_least_one("total_steps", self.total_steps)
        at_least_one("batch_size", self.batch_size)
        known = self.workers == "auto" or (type(self.workers) is int and self.workers >= 1)
        check(known, "workers", "a whole number, 1 or above, or auto", self.workers)
        between("gamma", self.gamma, 0, 1)
        between("gae_lambda", self.gae_lambda, 0, 1)
        if self.max_bad_updates is not None:
            at_least_one("max_bad_updates", self.max_bad_updates)

    @classmethod
    def parse(cls, plain: Plain, typed: Collection[str] = ()) -> RunConfig:
        """From plain values, as `compose` or a saved config.yaml has them; all types and ranges are checked, once.

        ``typed`` are the full names of the options that a user typed. Raises UserError that names the option.
        """
        policy = parse_policy(options(plain, "policy"))
        seen = construct(ObservationOptions, options(plain, "observations", example="normalise"), "observations")
        image = "none" if seen.image == "auto" and not sees_images(policy.network) else seen.image
        env = options(plain, "env")
        recorded = construct(RecordOptions, options(plain, "record", example="csv"), "record")
        own = {"own_wrappers": own_wrappers(env.get("wrappers")), "own": own_environment(env), "info": recorded.info}
        groups: dict[str, Any] = {
            "env": construct(EnvSpec, env, "env", image=image, **own),
            "policy": policy,
            "actor": UpdateOptions.parse(plain, ""),
            "critic": _parse_critic(options(plain, "critic")),
            "init": InitOptions.parse(plain),
            "exploration": _parse_exploration(plain.get("exploration")),
        }
        for name, kind in _GROUPS.items():
            groups[name] = construct(kind, options(plain, name, example=parameters(kind)[0]), name)
        if agents := groups["env"].agents:
            learners = groups["self_play"].learners(agents)
            rows = groups["env"].num_envs * len(learners[0])
            groups["env"] = replace(groups["env"], num_envs=rows, learners=learners)
        single = {name: plain[name] for name in _SINGLE if name in plain}
        return construct(cls, single, "", **groups, typed=frozenset(typed), plain=plain)

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """Observations, with the keys alone that the policy sees, and actions, as the environment declares them."""
        observations, actions = self.env.spaces()
        if self.policy.keys is None:
            return observations, actions
        from rlopt.policy.parts import only  # few runs have keys

        if self.env.mask != "auto" or not has_mask_key(observations, actions):
            return only(observations, self.policy.keys), actions
        inner = only(observations["observation"], self.policy.keys)  # type: ignore[index]
        return gym.spaces.Dict({**observations.spaces, "observation": inner}), actions  # type: ignore[attr-defined]

    @property
    def samples(self) -> int:
        """Transitions that an update learns from, those of earlier batches included."""
        return self.batch_size * self.reuse.batches

    @property
    def updates_of(self) -> dict[str, UpdateOptions]:
        """The networks' updates by the beginning of their options' names: nothing for the actor, or "critic."."""
        own = {"critic.": self.critic.update} if isinstance(self.critic, OwnCritic) else {}
        return {"": self.actor, **own}

    @property
    def memory_sizes(self) -> dict[str, int]:
        """Numbers that the networks of `updates_of` carry from one step to the next, by the same names."""
        networks = {"": self.policy.network}
        if isinstance(self.critic, OwnCritic):
            networks["critic."] = self.critic.network
        return {prefix: getattr(network, "memory_size", 0) for prefix, network in networks.items()}

    def sequence_of(self, prefix: str) -> int:
        """Steps that a network with memory learns through: the actor's, or with the prefix "critic." the critic's."""
        steps = self.batch_size // self.env.num_envs
        return min(self.updates_of[prefix].schedule.sequence or steps, steps)

    @property
    def processes(self) -> int:
        """Processes of this rank that collect rollouts; 1: the process that learns does.

        For ``workers=auto``, where MuJoCo's tasks are stepped as arrays, a process for every core that has at least
        four environments to step (half the rows of an inference block, see `policy.inference`).
        """
        if self.workers != "auto":
            return self.workers
        enough = self.env.num_envs // world_size() // 4 if self.env.steps_by == "mujoco" else 1
        return max(1, min(own_cores(), enough))

    @property
    def compatible(self) -> CompatibleCritic | None:
        """The critic of the policy's score, where there is one."""
        return self.critic.compatible if isinstance(self.critic, OwnCritic) else None


_GROUPS: dict[str, type[Any]] = {
    "advantages": AdvantageOptions,
    "observations": ObservationOptions,
    "rewards": RewardOptions,
    "reuse": ReuseOptions,
    "noise": NoiseOptions,
    "self_play": SelfPlayOptions,
    "averaging": Averaging,
    "evaluation": EvaluationOptions,
    "checkpoint": CheckpointOptions,
    "record": RecordOptions,
}
_NESTED = ("env", "policy", "actor", "critic", "init", "exploration", *_GROUPS, "typed", "plain")
_SINGLE = tuple(name for name in RunConfig.__dataclass_fields__ if name not in _NESTED)


def _parse_exploration(plain: Plain | None) -> Any:
    """From the group; configurations of before have none."""
    if plain is None:
        return None
    kind = part_class(plain, "exploration", "rlopt.exploration")
    return construct(kind, {k: v for k, v in plain.items() if k != "_target_"}, "exploration")


def _parse_critic(plain: Plain) -> OwnCritic | SharedCritic:
    if plain.get("_target_") == SHARED_CRITIC:
        return construct(SharedCritic, {k: v for k, v in plain.items() if k != "_target_"}, "critic")
    update = UpdateOptions.parse(plain, "critic.")
    targets = construct(TargetOptions, options(plain, "targets", "critic.", "normalise"), "critic.targets")
    groups = (*PARTS, "schedule", "l2", "targets")
    network, rest = parse_network({name: value for name, value in plain.items() if name not in groups}, "critic")
    given, keys = rest.pop("compatible", None), take_keys(rest, "critic")
    compatible = None if given is None else construct_part(given, "critic.compatible")
    return OwnCritic(network, construct(Value, rest, "critic"), update, compatible, targets, keys)
