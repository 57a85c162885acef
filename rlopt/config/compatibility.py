"""Compatibility: which choices go together. The one place that says what to type instead where they do not.

Parts declare what they supply, need and require (core/parts.py); conf/ says by which names they are chosen.

| called   | when                                     | knows             |
|---|---|---|
| `check`  | before an environment is made            | the configuration |
| `advise` | when a part finds out during training    | its remedy        |

What the environment and the networks' sizes refuse is in `config.fitting`.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from rlopt.config.agents import check_agents
from rlopt.config.catalogue import (
    compatible_critics,
    describe_need,
    inner_choices,
    inner_solver,
    instead_of,
    make_part,
    measurable_choices,
    solvers_for,
    typed_choices,
)  # fmt: skip
from rlopt.config.choices import ACTOR_PARTS, parts, short_name, stands_for
from rlopt.config.exploring import check_exploration
from rlopt.config.options import OwnCritic, RunConfig, SharedCritic, UpdateOptions
from rlopt.core.parts import COMPATIBLE, EUCLIDEAN, KL, OBJECTIVE
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.envs.agents.zoo import may_be_game
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size

MOST_STEPS = 10**7  # of one network in one update


def check(config: RunConfig) -> None:
    """Raise UserError where the choices do not go together, or one that was typed has no effect."""
    if config.env.agents or config.self_play.every:
        check_agents(config)
    _check_counts(config)
    _check_effects(config)
    for prefix, update in config.updates_of.items():
        _check_update(_Checked(config, update, prefix))
    if config.compatible:
        _check_compatible_critic(config)
    if config.reuse.batches > 1:
        _check_reuse(config)
    check_exploration(config)
    if may_be_game(config.env):
        return  # what it is decides how many steps a rollout has: see `fitting.check_environment`
    if any(config.memory_sizes.values()) or any(name.endswith("schedule.sequence") for name in config.typed):
        from rlopt.config.sequences import check_sequences  # which most runs have no need of

        check_sequences(config)


@dataclass(frozen=True)
class _Checked:
    """One network's update, and how its options are typed: their names begin with ``prefix``."""

    config: RunConfig
    update: UpdateOptions
    prefix: str  # nothing for the actor, "critic." for the critic

    def typed(self, group: str) -> str:
        """The choice of a group as one types it, such as critic.solver=cg."""
        return f"{self.prefix}{group}={stands_for(getattr(self.update, group))}"

    @property
    def given(self) -> frozenset[str]:
        """What the solver gets besides what the metric supplies."""
        return frozenset({COMPATIBLE} if self.config.compatible and not self.prefix else ())


def _check_update(c: _Checked) -> None:
    """One network's parts must serve one another. The words for each refusal stand below."""
    u, solver, metric, schedule = c.update, c.update.solver, c.update.metric, c.update.schedule
    _check_effects_of_parts(c)
    if u.objective.serves != ("critic" if c.prefix else "policy"):
        raise _wrong_objective(c)
    if lacking := solver.needs - metric.supplies - c.given:
        raise _cannot_serve(c, lacking)
    for group in ("solver", "metric") if world_size() > 1 else ():
        if getattr(u, group).requirements.one_rank:
            raise _one_rank_only(c, group)
    if u.damping.measures and not {KL, OBJECTIVE} & metric.supplies:
        raise _nothing_to_measure(c)
    if solver.requirements.needs_damping and not u.damping.current(u.damping.init()) > 0:
        raise UserError(f"{c.typed('solver')} needs damping above 0; set {c.prefix}damping.value=1e-3, for example")
    if u.step.adaptive and (EUCLIDEAN not in metric.supplies or COMPATIBLE in solver.needs):
        raise _undoes_geometry(c)
    whole = [group for group in ACTOR_PARTS if getattr(u, group).requirements.whole_batch]
    if whole and schedule.minibatch is not None:
        raise _no_minibatches(c, whole[0])
    if u.step.requirements.solves_again:
        _check_solves_again(c)
    if metric.requirements.first_step_only:
        _check_first_step(c)
    if u.estimator.reduces:
        _check_estimator(c)


def _check_effects_of_parts(c: _Checked) -> None:
    """Raise UserError where an option of a part was typed that has no effect."""
    for group in ACTOR_PARTS:
        _check_read(f"{c.prefix}{group}", getattr(c.update, group), c.config.typed)
    idle = [name for name in c.config.typed if name.startswith(f"{c.prefix}damping.")]
    if idle and not c.update.solver.requirements.reads_damping:
        raise UserError(f"{min(idle)} has no effect: {c.typed('solver')} takes no damping")
    size, config = c.update.schedule.minibatch, c.config
    if size is not None and size > config.samples and f"{c.prefix}schedule.minibatch" in config.typed:
        times = f" times reuse.batches={config.reuse.batches}" if config.reuse.batches > 1 else ""
        raise UserError(
            f"{c.prefix}schedule.minibatch={size} is more than batch_size={config.batch_size}{times}; for one step on "
            f"the whole batch type {c.prefix}schedule.minibatch=null"
        )


def _wrong_objective(c: _Checked) -> UserError:
    serves = c.update.objective.serves
    able = [name for name in parts("objective") if make_part("objective", name).serves != serves]
    return UserError(
        f"{c.typed('objective')} is for the {serves}; choose {typed_choices('objective', able, c.prefix, ' or ')}"
    )


def _cannot_serve(c: _Checked, lacking: frozenset[str]) -> UserError:
    needs = ", ".join(describe_need(need, c.prefix) for need in sorted(lacking))
    inner = inner_solver(c.update.solver)
    if inner and lacking <= inner[1].needs:
        option, able = f"{c.prefix}solver.{inner[0]}", inner_choices(c.update, c.prefix)
        if able:
            refused = f"{option}={stands_for(inner[1])} cannot serve {c.typed('metric')}"
            return UserError(f"{refused}: it needs {needs}. These can: {able}{_by_options(c)}")
    able = typed_choices("solver", solvers_for(c.update.metric), c.prefix)
    return UserError(
        f"{c.typed('solver')} cannot serve {c.typed('metric')}: it needs {needs}. These can: {able}{_by_options(c)}"
    )


def _by_options(c: _Checked) -> str:
    """The options with which the solver that was chosen asks for less, where that is so."""
    instead = [f"{c.prefix}solver.{option}={value}" for option, value in c.update.solver.requirements.instead.items()]
    return f", {c.typed('solver')} with {' '.join(instead)}" if instead else ""


def _one_rank_only(c: _Checked, group: str) -> UserError:
    if group == "solver":
        refused, able = instead_of(c.update, c.prefix, lambda solver: not solver.requirements.one_rank)
    else:
        names = [name for name in parts("metric") if not make_part("metric", name).requirements.one_rank]
        refused, able = c.typed(group), typed_choices(group, names, c.prefix)
    return UserError(
        f"{refused} needs all samples in one process, and those of other ranks are not at hand. These work on several "
        f"ranks: {able}"
    )


def _nothing_to_measure(c: _Checked) -> UserError:
    return UserError(
        f"{c.typed('damping')} cannot serve {c.typed('metric')}: it compares a model with what was measured, so "
        f"{measurable_choices(c.prefix)}"
    )


def _undoes_geometry(c: _Checked) -> UserError:
    p = c.prefix
    return UserError(
        f"{p}step=optimizer with an adaptive optimizer rescales every coordinate and undoes {c.typed('metric')} with "
        f"{c.typed('solver')}; choose {p}step=kl_clip, {p}step=trust_region or {p}optimizer=sgd"
    )


def _no_minibatches(c: _Checked, group: str) -> UserError:
    instead = f", or choose {c.prefix}step=trust_region" if group == "step" else ""
    return UserError(
        f"{c.typed(group)} needs the whole batch and cannot take minibatches; "
        f"add {c.prefix}schedule=whole_batch{instead}"
    )


def _check_solves_again(c: _Checked) -> None:
    """A step that asks for the direction at another theta needs parts that are right there too."""
    only = [group for group in ("metric", "estimator") if getattr(c.update, group).requirements.first_step_only]
    only += ["solver"] if COMPATIBLE in c.update.solver.needs else []
    only += ["estimator"] if c.update.estimator.reduces else []
    if only:
        raise UserError(
            f"{c.typed('step')} solves again at another theta, and {c.typed(only[0])} holds at the policy that acted "
            f"alone; choose another {c.prefix}{only[0]}, or {c.prefix}step=kl_clip"
        )


def _check_first_step(c: _Checked) -> None:
    """A metric over the actions that were taken holds in the first step after a rollout only, and for policies."""
    metric, schedule = f"{c.typed('metric')} reads the actions that were taken", c.update.schedule
    options = [f"type {c.prefix}metric.{o}={value}" for o, value in c.update.metric.requirements.instead.items()]
    instead = ", or ".join(options or [f"choose another {c.prefix}metric"])
    if c.prefix or isinstance(c.config.critic, SharedCritic):
        raise UserError(f"{metric}, and a value takes no actions; {instead}")
    if schedule.epochs > 1 or schedule.minibatch is not None:
        raise UserError(
            f"{metric}, and so holds in the first step after a rollout only; add {c.prefix}schedule=whole_batch "
            f"{c.prefix}schedule.epochs=1, or {instead}"
        )


def _check_estimator(c: _Checked) -> None:
    """Importance weights are of whole batches of one policy's actions, and what they compare must have one unit."""
    estimator, config = c.typed("estimator"), c.config
    if isinstance(config.critic, SharedCritic):
        raise UserError(f"{estimator} weighs actions, and a value takes none; choose critic=mlp or estimator=plain")
    if config.compatible:
        name = stands_for(config.compatible)
        raise UserError(
            f"{estimator} weighs advantages that are sums of temporal differences, and critic={name} has others; "
            "choose critic=mlp or estimator=plain"
        )
    if c.update.estimator.requirements.first_step_only and c.update.schedule.epochs > 1:
        raise UserError(f"{estimator} takes one step a rollout; add schedule.epochs=1, or choose estimator=plain")
    if config.advantages.normalise:
        raise UserError(
            f"{estimator} adds gradients of several batches, and normalised advantages have a unit of their own in "
            "each; add advantages.normalise=false"
        )


def _check_reuse(config: RunConfig) -> None:
    """Batches of earlier policies are weighed by sample, and kept by the process that learns."""
    reuse, actor = f"reuse.batches={config.reuse.batches}", config.actor
    if world_size() > 1:
        raise UserError(f"{reuse} keeps batches in one process; run without torchrun, or set reuse.batches=1")
    if any(config.memory_sizes.values()):
        raise UserError(
            f"{reuse} sees batches again, and the memory of a network is that of the policy that acted; choose "
            "policy=mlp critic=mlp, or set reuse.batches=1"
        )
    asked = actor.metric.requirements  # of whole episodes where it asks for the whole batch
    if config.compatible or actor.estimator.reduces or asked.first_step_only or asked.whole_batch:
        group = "critic" if config.compatible else "estimator" if actor.estimator.reduces else "metric"
        choice = {"critic": config.compatible, "estimator": actor.estimator, "metric": actor.metric}[group]
        raise UserError(
            f"{group}={stands_for(choice)} is for actions of the policy that learns, and {reuse} has those of earlier "
            f"ones too; choose another {group}, or set reuse.batches=1"
        )
    if config.advantages.normalise == "minibatch":
        raise UserError(f"{reuse} weighs advantages after they are normalised; add advantages.normalise=batch")


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
    over = config.advantages.normalise
    if over and (config.batch_size == 1 or (over == "minibatch" and config.actor.schedule.minibatch == 1)):
        raise UserError(
            f"advantages.normalise={over} makes every advantage 0 where the {over} is one sample; choose a larger "
            f"{over}, or add advantages.normalise=false"
        )
    if 1 < config.processes > envs // ranks:
        raise UserError(f"workers={config.workers} are more than the {envs // ranks} environments they would share")
    if config.processes > 1 and config.env.steps_by == "envpool":
        raise UserError(f"env.backend={config.env.backend} has threads of its own; leave out workers")
    if config.env.as_tensors:
        _check_tensors(config)
    for prefix, update in config.updates_of.items():
        epochs, minibatch = update.schedule.epochs, update.schedule.minibatch or config.samples
        steps = epochs * -(-config.samples // minibatch)
        if steps > MOST_STEPS:
            raise UserError(
                f"{prefix}schedule.epochs={epochs} with {prefix}schedule.minibatch={update.schedule.minibatch} makes "
                f"{steps:,} steps of each of {config.updates or 1:,} updates; {MOST_STEPS:,} are the most, so lower "
                f"{prefix}schedule.epochs{', reuse.batches' if config.reuse.batches > 1 else ''} or batch_size"
            )
    if config.record.spectrum_every is not None and ranks > 1:
        raise UserError("record.spectrum_every is for one process; leave it out, or run without torchrun")


def _check_tensors(config: RunConfig) -> None:
    """Raise UserError for what environments that are tensors do not serve."""
    backend = f"env.backend={config.env.backend}"
    if config.env.backend == "warp" and config.dtype == "float64":
        raise UserError(
            "env.backend=warp computes in float32; type dtype=float32, or env.backend=sync for dtype=float64"
        )
    if config.processes > 1:
        raise UserError(f"{backend} steps all environments of {config.env.id} as one; leave out workers")
    if config.noise.color:
        raise UserError(
            f"noise.color={config.noise.color:g} is drawn on the host, and {backend} draws on the device; set "
            "noise.color=0, or type env.backend=sync"
        )
    for prefix, size in config.memory_sizes.items():
        if size:
            network = "critic" if prefix else "policy"
            raise UserError(
                f"{network} has a memory, and {backend} serves none; type {network}=mlp, or env.backend=sync"
            )


def _check_effects(config: RunConfig) -> None:
    """Raise UserError where an option was typed that has no effect beside another's value."""
    names = ("observations", "rewards", "reuse", "noise", "self_play", "averaging")
    parts: dict[str, Any] = {name: getattr(config, name) for name in names}
    if isinstance(config.critic, OwnCritic):
        parts["critic.targets"] = config.critic.targets
    for group, part in {**parts, "policy": config.policy.head}.items():
        _check_read(group, part, config.typed)
    alone = [name for name in ("nconmax", "njmax", "deterministic") if f"env.{name}" in config.typed]
    if alone and config.env.backend != "warp":
        raise UserError(f"env.{alone[0]} has no effect: it is for env.backend=warp")
    if config.dtype == "float64" and config.matmul_precision != "highest":
        raise UserError(
            f"matmul_precision={config.matmul_precision} has no effect with dtype=float64: it is for float32 products"
        )
    if config.noise.color and config.policy.head.head == "gsde":
        raise UserError(
            f"noise.color={config.noise.color:g} is for noise that is drawn at every step, and policy.head=gsde holds "
            "its own for policy.noise_hold steps; set noise.color=0, or type policy.head=gaussian"
        )


def _check_read(group: str, part: Any, typed: Collection[str]) -> None:
    """Raise UserError where an option of ``part`` was typed that it does not read at present."""
    for option, other in part.requirements.unread.items():
        if f"{group}.{option}" in typed:
            shown = json.dumps(attrgetter(other)(part)).strip('"')
            raise UserError(
                f"{short_name(f'{group}.{option}')} has no effect with {short_name(f'{group}.{other}')}={shown}"
            )


def _check_compatible_critic(config: RunConfig) -> None:
    """A compatible critic's direction w and its advantages w . score hold together, at the theta that acted."""
    update, name = config.actor, stands_for(config.compatible)
    for option in ("normalise", "recompute"):
        if getattr(config.advantages, option):
            raise UserError(
                f"critic={name} makes advantages and direction together, at the policy that acted; "
                f"add advantages.{option}=false"
            )
    if COMPATIBLE not in update.solver.needs:
        return
    solver = f"solver={stands_for(update.solver)}"
    others = f"choose another solver: {typed_choices('solver', solvers_for(update.metric))}"
    if update.schedule.epochs > 1 or update.schedule.minibatch is not None:
        raise UserError(
            f"{solver} has one direction a rollout; add schedule=whole_batch schedule.epochs=1, or {others}"
        )
    if getattr(update.objective, "entropy", 0):
        raise UserError(f"objective.entropy has no effect with {solver}; set it to 0, or {others}")
    if update.l2:
        raise UserError(f"l2 has no effect with {solver}; set it to 0, or {others}")


REMEDIES = {  # what core says would help -> what to type
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
        instead.append(measurable_choices(prefix))
    elif error.remedy is Remedy.COMPATIBLE_CRITIC:
        instead.append(f"choose {compatible_critics()}")
    elif error.remedy:
        instead.append(REMEDIES[error.remedy].format(prefix=prefix))
    return UserError(f"{refused}{error.reason}{'; ' if instead else ''}{', or '.join(instead)}")
