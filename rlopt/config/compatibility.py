"""Compatibility: which choices go together. The one place that says what to type instead of what does not.

Parts declare what they supply, need and require (core/parts.py); conf/ says by which names they are chosen.

| called                 | when                                     | knows               |
|---|---|---|
| `check`                | before an environment is made            | the configuration   |
| `check_networks`       | when networks are made                   | observations, sizes |
| `check_environment`    | likewise                                 | spaces, time limit  |
| `advise`               | when a part finds out during training    | its remedy          |
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.config.choices import PARTS, choices, nearest, parts, short_name, stands_for
from rlopt.config.compose import read_choice
from rlopt.config.options import RunConfig, SharedCritic, UpdateOptions, parse_network
from rlopt.config.schema import construct_part
from rlopt.core.heads import Head
from rlopt.core.network import Network
from rlopt.core.parts import COMPATIBLE, EUCLIDEAN, KL, OBJECTIVE, PRODUCT, ROOT, SEMIDEFINITE, Metric, Solver
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.samples import Samples
from rlopt.core.solvers.per_layer import root, rooted
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size
from rlopt.policy.mlp import NetworkFactory

LOWER = "lower batch_size, env.num_envs, policy.hidden or critic.hidden"  # to make a run smaller
_NEEDS = {  # what a solver needs -> the words for it; else the choices that supply it are named
    PRODUCT: "products of the metric with vectors",
    ROOT: "root factors of the metric in output space",
    SEMIDEFINITE: "a metric without negative curvature",
}


def check(config: RunConfig) -> None:
    """Raise UserError where the choices do not go together, or one that was typed has no effect."""
    _check_counts(config)
    _check_effects(config)
    for prefix, update in config.updates_of.items():
        _check_update(config, update, prefix)
    _check_compatible_critic(config)


def pairs(
    metrics: Sequence[str] | None = None, solvers: Sequence[str] | None = None
) -> list[tuple[str, Metric, dict[str, Solver]]]:
    """Metrics (all by default) with the solvers that can serve them, by name, each with the options of its own file.

    Raises UserError where a name is unknown or nothing goes together.
    """
    metric_parts = {name: make_part("metric", name) for name in _known("metric", metrics)}
    solver_parts = {name: make_part("solver", name) for name in _known("solver", solvers)}
    found = [
        (name, metric, {s: solver for s, solver in solver_parts.items() if solver.needs <= metric.supplies})
        for name, metric in metric_parts.items()
    ]
    if not any(served for _, _, served in found):
        raise UserError(f"no solver of {', '.join(solver_parts)} can serve a metric of {', '.join(metric_parts)}")
    return found


def make_part(group: str, name: str) -> Any:
    """The part that a choice stands for, with the options of its file."""
    return construct_part(read_choice(group, name), group)


def _known(group: str, names: Sequence[str] | None) -> Sequence[str]:
    """These names, or all parts there are."""
    known = choices(group)
    for name in names or ():
        if name not in known:
            raise UserError(f"there is no {group} {name!r}{nearest(name, known)}; choose of {', '.join(known)}")
    return parts(group) if names is None else names


def _typed(group: str, names: Sequence[str], prefix: str = "") -> str:
    """Choices as one types them: solver=cg, solver=dense."""
    return ", ".join(f"{prefix}{group}={name}" for name in names)


def _solvers(metric: Metric, given: frozenset[str] = frozenset(), **requirements: Any) -> list[str]:
    """Solvers that can serve a metric and have these values of `Requirements`."""
    found = []
    for name in parts("solver"):
        solver = make_part("solver", name)
        wanted = all(getattr(solver.requirements, field) == value for field, value in requirements.items())
        if wanted and solver.needs <= metric.supplies | given:
            found.append(name)
    return found


def _check_counts(config: RunConfig) -> None:
    """Environments, ranks, workers and batch must divide into one another."""
    ranks, envs = world_size(), config.env.num_envs
    if envs % ranks:
        raise UserError(
            f"env.num_envs counts the environments of all {ranks} ranks and must be a multiple of that; got {envs}; "
            f"try env.num_envs={-(-envs // ranks) * ranks}"
        )
    if config.batch_size % envs:
        raise UserError(
            f"batch_size must be a multiple of env.num_envs={envs}; got {config.batch_size}; "
            f"try batch_size={max(config.batch_size // envs, 1) * envs}"
        )
    if config.workers > 1 and config.workers > envs // ranks:
        raise UserError(f"workers={config.workers} are more than the {envs // ranks} environments they would share")
    if config.workers > 1 and config.env.backend != "sync":
        raise UserError(f"env.backend={config.env.backend} has threads of its own; leave out workers")
    if config.record.spectrum_every is not None and ranks > 1:
        raise UserError("record.spectrum_every is for one process; leave it out, or run without torchrun")


def _check_effects(config: RunConfig) -> None:
    """Raise UserError where an option was typed that has no effect beside another's value."""
    idle = {
        "observations.clip": ("observations.normalise", not config.observations.normalise),
        "rewards.clip": ("rewards.scale", not config.rewards.scale),
    }
    for option, (other, off) in idle.items():
        if off and option in config.typed:
            raise _no_effect(option, other, False)
    for option, other in config.averaging.requirements.unread.items():
        if f"averaging.{option}" in config.typed:
            raise _no_effect(f"averaging.{option}", f"averaging.{other}", getattr(config.averaging, other))


def _no_effect(option: str, other: str, value: Any) -> UserError:
    shown = json.dumps(value).strip('"')
    return UserError(f"{short_name(option)} has no effect with {short_name(other)}={shown}")


def _check_update(config: RunConfig, update: UpdateOptions, prefix: str) -> None:
    """One network's parts must serve one another; the names of its options begin with ``prefix``."""
    names = {group: stands_for(getattr(update, group)) for group in PARTS}
    given = frozenset({COMPATIBLE} if config.compatible and not prefix else ())
    _check_objective(update, names, prefix)
    _check_solver(update, names, prefix, given)
    _check_damping(config, update, names, prefix)
    if update.step.adaptive and (EUCLIDEAN not in update.metric.supplies or COMPATIBLE in update.solver.needs):
        raise UserError(
            f"{prefix}step=optimizer with an adaptive optimizer rescales every coordinate and undoes "
            f"{prefix}metric={names['metric']} with {prefix}solver={names['solver']}; choose {prefix}step=kl_clip, "
            f"{prefix}step=trust_region or {prefix}optimizer=sgd"
        )
    _check_schedule(config, update, names, prefix)
    for group in PARTS:
        part = getattr(update, group)
        for option, other in part.requirements.unread.items():
            if f"{prefix}{group}.{option}" in config.typed:
                raise _no_effect(f"{prefix}{group}.{option}", f"{prefix}{group}.{other}", getattr(part, other))


def _check_objective(update: UpdateOptions, names: Mapping[str, str], prefix: str) -> None:
    role, serves = "critic" if prefix else "policy", update.objective.serves
    if serves != role:
        able = [name for name in parts("objective") if make_part("objective", name).serves == role]
        raise UserError(
            f"{prefix}objective={names['objective']} is for the {serves}; "
            f"choose {' or '.join(f'{prefix}objective={name}' for name in able)}"
        )


def _check_solver(update: UpdateOptions, names: Mapping[str, str], prefix: str, given: frozenset[str]) -> None:
    metric, solver = update.metric, update.solver
    if lacking := solver.needs - metric.supplies - given:
        raise UserError(
            f"{prefix}solver={names['solver']} cannot serve {prefix}metric={names['metric']}: it needs "
            f"{', '.join(_words_for(need, prefix) for need in sorted(lacking))}. "
            f"These can: {_typed('solver', _solvers(metric), prefix)}"
        )
    if world_size() > 1 and solver.requirements.one_rank:
        raise UserError(
            f"{prefix}solver={names['solver']} needs products between all samples, and those of other ranks are not at "
            f"hand. These work on several ranks: {_typed('solver', _solvers(metric, given, one_rank=False), prefix)}"
        )


def _words_for(need: str, prefix: str) -> str:
    """What a solver needs, in words, or as the choices that supply it."""
    if need in _NEEDS:
        return _NEEDS[need]
    if need == COMPATIBLE:
        return f"the direction that {_compatible_critics()} gives the policy"
    return " or ".join(f"{prefix}metric={name}" for name in _metrics(need))


def _metrics(*supplied: str) -> list[str]:
    """Metrics that supply one of these."""
    return [name for name in parts("metric") if set(supplied) & make_part("metric", name).supplies]


def _measurable(prefix: str) -> str:
    """Which metrics model what can be measured, and which dampings measure nothing."""
    dampings = [name for name in parts("damping") if not make_part("damping", name).measures]
    return f"{prefix}metric must be {_either(_metrics(KL, OBJECTIVE))}, or {prefix}damping {_either(dampings)}"


def _compatible_critics() -> str:
    """The critics that give the policy its direction, as one types them."""
    return _either([f"critic={name}" for name in choices("critic") if read_choice("critic", name).get("compatible")])


def _either(names: Sequence[str]) -> str:
    """a, b or c."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _check_damping(config: RunConfig, update: UpdateOptions, names: Mapping[str, str], prefix: str) -> None:
    damping, solver = update.damping, update.solver
    if damping.measures and not {KL, OBJECTIVE} & update.metric.supplies:
        raise UserError(
            f"{prefix}damping={names['damping']} cannot serve {prefix}metric={names['metric']}: it compares a model "
            f"with what was measured, so {_measurable(prefix)}"
        )
    if solver.requirements.needs_damping and not damping.current(damping.init()) > 0:
        raise UserError(
            f"{prefix}solver={names['solver']} needs damping above 0; set {prefix}damping.value=1e-3, for example"
        )
    if not solver.requirements.reads_damping:
        if idle := sorted(name for name in config.typed if name.startswith(f"{prefix}damping.")):
            raise UserError(f"{idle[0]} has no effect: {prefix}solver={names['solver']} takes no damping")


def _check_schedule(config: RunConfig, update: UpdateOptions, names: Mapping[str, str], prefix: str) -> None:
    schedule, metric = update.schedule, update.metric
    if schedule.minibatch is not None and update.step.requirements.whole_batch:
        raise UserError(
            f"{prefix}step={names['step']} measures on the whole batch and cannot take minibatches; "
            f"add {prefix}schedule=whole_batch, or choose {prefix}step=trust_region"
        )
    if schedule.minibatch is not None and metric.requirements.whole_batch:
        raise UserError(f"{prefix}metric={names['metric']} needs whole episodes; add {prefix}schedule=whole_batch")
    if metric.requirements.first_step_only:
        _check_first_step(config, update, names, prefix)
    size = schedule.minibatch
    if f"{prefix}schedule.minibatch" in config.typed and size is not None and size > config.batch_size:
        raise UserError(
            f"{prefix}schedule.minibatch={size} is more than batch_size={config.batch_size}; for one step on the whole "
            f"batch type {prefix}schedule.minibatch=null"
        )


def _check_first_step(config: RunConfig, update: UpdateOptions, names: Mapping[str, str], prefix: str) -> None:
    """A metric over the actions that were taken holds in the first step after a rollout only, and for policies."""
    metric = f"{prefix}metric={names['metric']} reads the actions that were taken"
    options = [f"type {prefix}metric.{option}={value}" for option, value in update.metric.requirements.instead.items()]
    instead = ", or ".join(options or [f"choose another {prefix}metric"])
    if prefix or isinstance(config.critic, SharedCritic):
        raise UserError(f"{metric}, and a value takes no actions; {instead}")
    if update.schedule.epochs > 1 or update.schedule.minibatch is not None:
        raise UserError(
            f"{metric}, and so holds in the first step after a rollout only; add {prefix}schedule=whole_batch "
            f"{prefix}schedule.epochs=1, or {instead}"
        )


def _check_compatible_critic(config: RunConfig) -> None:
    """A compatible critic's direction w and its advantages w . score hold together, at the theta that acted."""
    update = config.actor
    if config.compatible is None:
        return
    name = stands_for(config.compatible)
    for option in ("normalise", "recompute"):
        if getattr(config.advantages, option):
            raise UserError(
                f"critic={name} makes advantages and direction together, at the policy that acted; "
                f"add advantages.{option}=false"
            )
    if COMPATIBLE not in update.solver.needs:
        return
    solver = f"solver={stands_for(update.solver)}"
    others = f"choose another solver: {_typed('solver', _solvers(update.metric))}"
    if update.schedule.epochs > 1 or update.schedule.minibatch is not None:
        raise UserError(
            f"{solver} has one direction a rollout; add schedule=whole_batch schedule.epochs=1, or {others}"
        )
    if getattr(update.objective, "entropy", 0):
        raise UserError(f"objective.entropy has no effect with {solver}; set it to 0, or {others}")
    if update.l2:
        raise UserError(f"l2 has no effect with {solver}; set it to 0, or {others}")


def check_network(
    update: UpdateOptions, network: Network, head: Head, theta: Tensor, inputs: int, batch: int, prefix: str
) -> None:
    """A network's parts must suit its structure and the sizes of theta (P,) and of the batch.

    Observations have ``inputs`` numbers. Raises UserError.
    """
    if update.solver.requirements.needs_chain and network.plan is None:
        raise UserError(
            f"{prefix}solver={stands_for(update.solver)} needs an MLP of tanh, relu, elu or sigmoid; "
            f"choose {_typed('solver', _solvers(update.metric, needs_chain=False), prefix)}"
        )
    size = update.schedule.minibatch
    samples = batch if size is None or size >= batch else size + batch % size
    for group in PARTS:
        part = getattr(update, group)
        try:
            if check_size := part.requirements.check_size:
                check_size(len(theta))
            if check_samples := part.requirements.check_samples:
                check_samples(_count_factors(update, network, head, theta, theta.new_zeros(1, inputs)), samples)
        except Incompatible as error:
            raise advise(error, group, stands_for(part), prefix) from error


@torch.no_grad()
def _count_factors(update: UpdateOptions, network: Network, head: Head, theta: Tensor, inputs: Tensor) -> int:
    """K, the number of factors that the metric has for each sample."""
    tape = network.tape(theta, inputs)
    z, one = tape.outputs, torch.ones(1).to(tape.outputs)
    actions = head.mode(z)
    samples = Samples(inputs, actions, one, one, z, head.log_prob(z, actions))
    curvature, _ = update.metric.bind(update.metric.init(), tape, head, samples, update.objective)
    return len(root(rooted(curvature)))


def check_environment(
    config: RunConfig, longest: int | None, continuous: bool, normalised: Collection[int] | None, inputs: int
) -> None:
    """What only the environment can tell: the length of its episodes, its actions and its observations.

    ``longest`` is its time limit in steps, None without one; ``normalised`` are the numbers of the ``inputs`` of an
    observation that a normaliser leaves as they are, None for images. Raises UserError.
    """
    name = config.env.id
    critic = config.compatible
    steps = config.batch_size // config.env.num_envs
    if critic and critic.whole_episodes and longest and steps < longest:
        raise UserError(
            f"critic={stands_for(critic)} learns from whole episodes, of up to {longest} steps, and batch_size / "
            f"env.num_envs is {steps} steps of each environment; {_REMEDIES[Remedy.LONGER_ROLLOUT]}"
        )
    of_gaussians = config.typed & {"policy.scale", "policy.initial_sigma", "policy.squash"}
    if of_gaussians and not continuous:
        raise UserError(f"{min(of_gaussians)} has no effect: it is of continuous actions, which {name} has not")
    if "observations.normalise" in config.typed and config.observations.normalise:
        if normalised is None:
            raise UserError(
                "observations.normalise=true has no effect on images, whose pixels are divided by 255 in any case"
            )
        if len(normalised) == inputs:
            raise UserError(
                f"observations.normalise=true has no effect: {name} shows one-hots and bits, which stay as they are"
            )


def check_sees(where: str, factory: NetworkFactory, space: gym.Space) -> None:
    """The network of the policy or the critic must take the environment's observations. Raises UserError."""
    try:
        factory.sees(space)
    except ValueError as error:
        able = [
            name for name in parts("policy") if _sees(parse_network(read_choice("policy", name), "policy")[0], space)
        ]
        instead = " or ".join(f"policy={name} critic={name}" for name in able if name in choices("critic"))
        raise UserError(f"{where}={stands_for(factory)}: {error}; choose {instead or 'another network'}") from error


def _sees(factory: NetworkFactory, space: gym.Space) -> bool:
    try:
        factory.sees(space)
    except ValueError:
        return False
    return True


_REMEDIES = {  # what core says would help -> what to type
    Remedy.LONGER_ROLLOUT: "raise batch_size, or lower env.num_envs",
    Remedy.FEWER_SAMPLES: "lower batch_size or {prefix}schedule.minibatch, or choose another {prefix}solver",
    Remedy.WHOLE_BATCH: "add {prefix}schedule=whole_batch",
    Remedy.ONE_PROCESS: "run without torchrun, or choose another {prefix}solver",
    Remedy.OTHER_SOLVER: "choose another {prefix}solver",
}


def advise(error: Incompatible, group: str = "", choice: str = "", prefix: str = "") -> UserError:
    """The error with what to type instead; ``choice`` of ``group`` is what was refused, where that is known."""
    refused = f"{prefix}{group}={choice}: " if choice else ""
    instead = [f"type {prefix}{group}.{option}={value}" for option, value in error.options.items() if group]
    if error.remedy is Remedy.OTHER_METRIC:
        instead.append(_measurable(prefix))
    elif error.remedy is Remedy.COMPATIBLE_CRITIC:
        instead.append(f"choose {_compatible_critics()}")
    elif error.remedy:
        instead.append(_REMEDIES[error.remedy].format(prefix=prefix))
    return UserError(f"{refused}{error.reason}{'; ' if instead else ''}{', or '.join(instead)}")
