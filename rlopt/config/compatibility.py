"""Fit: which choices go together. Metrics say what they supply, solvers what they need, conf/ who they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium.envs.registration import EnvSpec
from torch import Tensor

from rlopt.config.choices import choices, file, nearest, stands_for
from rlopt.config.compose import load
from rlopt.config.schema import construct_part
from rlopt.core.agreement import refused
from rlopt.core.heads import Head, Joint, Value
from rlopt.core.learner import Learner, Schedule
from rlopt.core.parts import COMPATIBLE, EUCLIDEAN, HISTORY, PRODUCT, ROOT, SEMIDEFINITE, Metric, Solver
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
    if world_size() > 1 and getattr(solver, "one_rank", False):
        solvers = {name: _part("solver", name) for name in choices("solver")}
        able = [
            name for name, other in solvers.items()
            if other.needs <= metric.supplies | given and not getattr(other, "one_rank", False)
        ]  # fmt: skip
        raise UserError(
            f"{where}solver={names['solver']} needs products between all samples, and those of other ranks are not at "
            f"hand. These work on several ranks: {', '.join(f'{where}solver={name}' for name in able)}"
        )
    if refusal := refused(parts["damping"], metric, where):
        raise UserError(f"{where}damping={names['damping']} cannot serve {where}metric={names['metric']}: {refusal}")
    damping = parts["damping"]
    if getattr(solver, "needs_damping", False) and not damping.current(damping.init()) > 0:
        raise UserError(f"{where}solver={names['solver']} needs damping above 0; set {where}damping.value=1e-3, say")
    if step.adaptive and (EUCLIDEAN not in metric.supplies or COMPATIBLE in solver.needs):
        raise UserError(
            f"{where}step=optimizer with an adaptive optimizer rescales every coordinate and undoes "
            f"{where}metric={names['metric']} with {where}solver={names['solver']}; choose {where}step=kl_clip, "
            f"{where}step=trust_region or {where}optimizer=sgd"
        )


def check_first_step(metric: Metric, head: Head, schedule: Schedule, where: str) -> None:
    """A metric over the actions that were taken holds in the first step after a rollout only, and for policies."""
    if not getattr(metric, "first_step_only", False):
        return
    instead = f"{where}metric.samples=1 draws actions of its own, and null takes the closed form"
    if isinstance(head, Value | Joint):
        raise UserError(f"{where}metric.samples=taken: a value takes no actions; {instead}")
    if schedule.epochs > 1 or schedule.minibatch is not None:
        raise UserError(
            f"{where}metric.samples=taken holds in the first step after a rollout only; add "
            f"{where}schedule=whole_batch {where}schedule.epochs=1, or type {instead}"
        )


def check_sizes(learner: Learner, theta: Tensor, inputs: Tensor, batch: int, where: str) -> None:
    """A metric that is given in numbers must suit the network, and what a solver holds of the samples its bounds.

    ``batch`` samples come of a rollout; inputs (1, ...) are one, of any values.
    """
    update, size = learner.update, learner.schedule.minibatch
    if suits := getattr(update.metric, "check_size", None):
        try:
            suits(len(theta), where)
        except ValueError as error:
            raise UserError(str(error)) from error
    if fits := getattr(update.solver, "check_samples", None):
        fits(_factors(update, theta, inputs), batch if size is None or size >= batch else size + batch % size, where)


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
