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
from collections.abc import Mapping, Sequence
from typing import Any

from rlopt.config.choices import choices, file, nearest, parts, stands_for
from rlopt.config.compose import load
from rlopt.config.options import PARTS, OwnCritic, RunConfig, SharedCritic, UpdateOptions
from rlopt.config.overrides import short_name
from rlopt.config.schema import construct_part
from rlopt.core.parts import COMPATIBLE, EUCLIDEAN, KL, OBJECTIVE, PRODUCT, ROOT, SEMIDEFINITE, Metric, Solver
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size

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
    values = load(file(group, name))
    for base in (entry for entry in values.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"):
        values = {**load(file(group, base)), **values}
    return construct_part(values, group)


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
        raise UserError(
            f"workers={config.workers} are more than the {envs // ranks} environments they would share"
        )
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


def _check_solver(
    update: UpdateOptions, names: Mapping[str, str], prefix: str, given: frozenset[str]
) -> None:
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
        critics = [name for name in choices("critic") if load(file("critic", name)).get("compatible")]
        return f"the direction that {' or '.join(f'critic={name}' for name in critics)} gives the policy"
    metrics = [name for name in parts("metric") if need in make_part("metric", name).supplies]
    return " or ".join(f"{prefix}metric={name}" for name in metrics)


def _check_damping(config: RunConfig, update: UpdateOptions, names: Mapping[str, str], prefix: str) -> None:
    damping, solver = update.damping, update.solver
    if damping.measures and not {KL, OBJECTIVE} & update.metric.supplies:
        able = [name for name in parts("metric") if {KL, OBJECTIVE} & make_part("metric", name).supplies]
        constant = [name for name in parts("damping") if not make_part("damping", name).measures]
        raise UserError(
            f"{prefix}damping={names['damping']} cannot serve {prefix}metric={names['metric']}: it compares a model "
            f"with what was measured, so {prefix}metric must be {', '.join(able[:-1])} or {able[-1]}, or "
            f"{prefix}damping {' or '.join(constant)}"
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
    metric = f"{prefix}metric={names['metric']} over the actions that were taken"
    if prefix or isinstance(config.critic, SharedCritic):
        raise UserError(f"{metric}: a value takes no actions; {_own_draws(prefix)}")
    if update.schedule.epochs > 1 or update.schedule.minibatch is not None:
        raise UserError(
            f"{metric} holds in the first step after a rollout only; add {prefix}schedule=whole_batch "
            f"{prefix}schedule.epochs=1, or {_own_draws(prefix)}"
        )


def _own_draws(prefix: str) -> str:
    return f"type {prefix}metric.samples=1, which draws actions of its own, or null for the closed form"


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
    others = f"choose {_typed('solver', _solvers(update.metric)[:1])}"
    if update.schedule.epochs > 1 or update.schedule.minibatch is not None:
        raise UserError(
            f"{solver} has one direction a rollout; add schedule=whole_batch schedule.epochs=1, or {others}"
        )
    if getattr(update.objective, "entropy", 0):
        raise UserError(f"objective.entropy has no effect with {solver}; set it to 0, or {others}")
    if update.l2:
        raise UserError(f"l2 has no effect with {solver}; set it to 0, or {others}")
