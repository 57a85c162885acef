"""Which choices go together, and what to type instead of those that do not.

Parts say what they supply, need and require (`rlopt.core.parts`); conf/ says what they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from rlopt.config.choices import PARTS, choices, file, nearest, stands_for
from rlopt.config.compose import load
from rlopt.config.schema import construct_part
from rlopt.core.heads import Head, Joint, Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.parts import COMPATIBLE, EUCLIDEAN, HISTORY, KL, OBJECTIVE, PRODUCT, ROOT, SEMIDEFINITE, Metric, Solver
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.samples import Samples
from rlopt.core.solvers.per_layer import root, rooted
from rlopt.core.update import Update
from rlopt.errors import UserError
from rlopt.parallel.collectives import world_size
from rlopt.training.agent import Agent


def pairs(
    metrics: Sequence[str] | None = None, solvers: Sequence[str] | None = None
) -> list[tuple[str, Metric, dict[str, Solver]]]:
    """Metrics (all by default) with the solvers that can serve them, by name, each with the options of its own file.

    Raises UserError where a name is unknown or nothing fits.
    """
    metric_parts = {name: _part("metric", name) for name in _known("metric", metrics)}
    solver_parts = {name: _part("solver", name) for name in _known("solver", solvers)}
    found = [
        (name, metric, {s: solver for s, solver in solver_parts.items() if solver.needs <= metric.supplies})
        for name, metric in metric_parts.items()
    ]
    if not any(served for _, _, served in found):
        raise UserError(f"no solver of {', '.join(solver_parts)} can serve a metric of {', '.join(metric_parts)}")
    return found


def _known(group: str, names: Sequence[str] | None) -> Sequence[str]:
    """These names, or all there are."""
    known = choices(group)
    for name in names or ():
        if name not in known:
            raise UserError(f"there is no {group} {name!r}{nearest(name, known)}; choose of {', '.join(known)}")
    return known if names is None else names


def check_fit(
    parts: Mapping[str, Any], names: Mapping[str, str], where: str, given: frozenset[str] = frozenset()
) -> None:
    """Solver and metric must fit, an adaptive optimizer must not undo the metric's geometry.

    And an objective is for a policy or for a critic, whose options start with ``where``. ``given`` is what a solver
    gets from elsewhere than the metric.
    """
    role, serves = "critic" if where else "policy", parts["objective"].serves
    if serves != role:
        able = [name for name in choices("objective") if _part("objective", name).serves == role]
        raise UserError(
            f"{where}objective={names['objective']} is for the {serves}; "
            f"choose {' or '.join(f'{where}objective={name}' for name in able)}"
        )
    metric, solver, step = parts["metric"], parts["solver"], parts["step"]
    lacking = solver.needs - metric.supplies - given
    if lacking:
        able = [name for name in choices("solver") if _part("solver", name).needs <= metric.supplies]
        raise UserError(
            f"{where}solver={names['solver']} cannot serve {where}metric={names['metric']}: it needs "
            f"{', '.join(_LACKING.get(need, need).format(where=where) for need in sorted(lacking))}. "
            f"These can: {', '.join(f'{where}solver={name}' for name in able)}"
        )
    if world_size() > 1 and solver.requirements.one_rank:
        solvers = {name: _part("solver", name) for name in choices("solver")}
        able = [
            name for name, other in solvers.items()
            if other.needs <= metric.supplies | given and not other.requirements.one_rank
        ]  # fmt: skip
        raise UserError(
            f"{where}solver={names['solver']} needs products between all samples, and those of other ranks are not at "
            f"hand. These work on several ranks: {', '.join(f'{where}solver={name}' for name in able)}"
        )
    damping = parts["damping"]
    if damping.measures and not {KL, OBJECTIVE} & metric.supplies:
        raise UserError(
            f"{where}damping={names['damping']} cannot serve {where}metric={names['metric']}: it compares a model with "
            f"what was measured, so {_measurable(where)}"
        )
    if solver.requirements.needs_damping and not damping.current(damping.init()) > 0:
        raise UserError(f"{where}solver={names['solver']} needs damping above 0; set {where}damping.value=1e-3, say")
    if step.adaptive and (EUCLIDEAN not in metric.supplies or COMPATIBLE in solver.needs):
        raise UserError(
            f"{where}step=optimizer with an adaptive optimizer rescales every coordinate and undoes "
            f"{where}metric={names['metric']} with {where}solver={names['solver']}; choose {where}step=kl_clip, "
            f"{where}step=trust_region or {where}optimizer=sgd"
        )


def check_first_step(metric: Metric, head: Head, schedule: Schedule, where: str) -> None:
    """A metric over the actions that were taken holds in the first step after a rollout only, and for policies."""
    if not metric.requirements.first_step_only:
        return
    name = f"{where}metric={stands_for(metric)}"
    options = [f"type {where}metric.{option}={value}" for option, value in metric.requirements.instead.items()]
    instead = ", or ".join(options or [f"choose another {where}metric"])
    if isinstance(head, Value | Joint):
        raise UserError(f"{name} reads the actions that were taken, and a value takes no actions; {instead}")
    if schedule.epochs > 1 or schedule.minibatch is not None:
        raise UserError(
            f"{name} reads the actions that were taken, and so holds in the first step after a rollout only; add "
            f"{where}schedule=whole_batch {where}schedule.epochs=1, or {instead}"
        )


def check_sizes(learner: Learner, theta: Tensor, inputs: Tensor, batch: int, where: str) -> None:
    """A part may ask for a number of parameters, or bound the factors and samples of a step.

    ``batch`` samples come of a rollout; inputs (1, ...) are one, of any values.
    """
    update, size = learner.update, learner.schedule.minibatch
    samples = batch if size is None or size >= batch else size + batch % size
    for group in PARTS:
        part = getattr(update, group)
        try:
            if check_size := part.requirements.check_size:
                check_size(len(theta))
            if check_samples := part.requirements.check_samples:
                check_samples(_factors(update, theta, inputs), samples)
        except Incompatible as error:
            raise advise(error, group, stands_for(part), where) from error


@torch.no_grad()
def _factors(update: Update, theta: Tensor, inputs: Tensor) -> int:
    """K, the number of factors that the metric has for each sample."""
    tape = update.network.tape(theta, inputs)
    z, one = tape.outputs, torch.ones(1).to(tape.outputs)
    actions = update.head.mode(z)
    samples = Samples(inputs, actions, one, one, z, update.head.log_prob(z, actions))
    curvature, _ = update.metric.bind(update.metric.init(), tape, update.head, samples, update.objective)
    return len(root(rooted(curvature)))


def check_compatible(agent: Agent, steps: int, spec: EnvSpec | None) -> None:
    """A compatible critic's w and its advantages w . score go together, at the theta that acted, and need episodes.

    ``steps`` is what a batch has of each environment, ``spec`` the environment's.
    """
    if agent.compatible is None:
        return
    critic, update, schedule = agent.compatible.critic, agent.actor.update, agent.actor.schedule
    name = stands_for(critic)
    for option in ("normalise", "recompute"):
        if getattr(agent.returns, option):
            raise UserError(
                f"critic={name} makes advantages and direction together, at the policy that acted; "
                f"add advantages.{option}=false"
            )
    longest = spec.max_episode_steps if spec else None
    if critic.whole_episodes and longest and steps < longest:
        raise UserError(
            f"critic={name} learns from whole episodes, of up to {longest} steps, and batch_size / env.num_envs is "
            f"{steps} steps of each environment; raise batch_size, or lower env.num_envs"
        )
    if COMPATIBLE not in update.solver.needs:
        return
    if schedule.epochs > 1 or schedule.minibatch is not None:
        raise UserError(
            "solver=compatible has one direction a rollout; add schedule=whole_batch schedule.epochs=1, "
            "or choose solver=cg"
        )
    if getattr(update.objective, "entropy", 0):
        raise UserError("objective.entropy has no effect with solver=compatible; set it to 0, or choose solver=cg")
    if update.l2:
        raise UserError("l2 has no effect with solver=compatible; set it to 0, or choose solver=cg")


def advise(error: Incompatible, group: str = "", choice: str = "", where: str = "") -> UserError:
    """The refusal with what to type instead; ``choice`` of ``group`` is what was refused, where that is known."""
    refused = f"{where}{group}={choice}: " if choice else ""
    instead = [f"type {where}{group}.{name}={value}" for name, value in error.options.items() if group]
    if error.remedy:
        instead.append(_REMEDIES[error.remedy].format(where=where, **_able(error.remedy, where)))
    return UserError(f"{refused}{error.reason}{'; ' if instead else ''}{', or '.join(instead)}")


_REMEDIES = {  # what core says would help -> what to type
    Remedy.LONGER_ROLLOUT: "raise batch_size, or lower env.num_envs",
    Remedy.FEWER_SAMPLES: "lower batch_size or {where}schedule.minibatch, or choose another {where}solver",
    Remedy.WHOLE_BATCH: "add {where}schedule=whole_batch",
    Remedy.ONE_PROCESS: "run without torchrun, or choose another {where}solver",
    Remedy.OTHER_SOLVER: "choose another {where}solver",
    Remedy.OTHER_METRIC: "{measurable}",
    Remedy.COMPATIBLE_CRITIC: "choose {critics}",
}


def _able(remedy: Remedy, where: str) -> dict[str, str]:
    """The choices that a remedy's words name."""
    if remedy is Remedy.OTHER_METRIC:
        return {"measurable": _measurable(where)}
    return {"critics": _compatible_critics()} if remedy is Remedy.COMPATIBLE_CRITIC else {}


def _measurable(where: str) -> str:
    """Which metrics model what can be measured, and which dampings measure nothing."""
    metrics = [name for name in choices("metric") if {KL, OBJECTIVE} & _part("metric", name).supplies]
    dampings = [name for name in choices("damping") if not _part("damping", name).measures]
    return f"{where}metric must be {_either(metrics)}, or {where}damping {_either(dampings)}"


def _compatible_critics() -> str:
    """The critics that give the policy its direction, as one types them."""
    nodes = {name: load(file("critic", name)).get("compatible") for name in choices("critic")}
    return _either([f"critic={name}" for name, node in nodes.items() if isinstance(node, dict)])


def _either(names: Sequence[str]) -> str:
    """a, b or c."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


_LACKING = {  # what a solver needs -> what that is, as one types it where there is but one
    PRODUCT: "products of the metric with vectors",
    ROOT: "root factors of the metric in output space",
    EUCLIDEAN: "{where}metric=identity",
    SEMIDEFINITE: "a metric without negative curvature",
    HISTORY: "{where}metric=gradient_history",
    COMPATIBLE: "the direction that critic=lstd or critic=episodic gives the policy",
}


def _part(group: str, name: str) -> Any:
    return construct_part(load(file(group, name)), group)
