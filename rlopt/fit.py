"""Fit: which choices go together. Metrics say what they supply, solvers what they need, conf/ who they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlopt.build import load
from rlopt.catalogue import choices, conf_dir, nearest
from rlopt.construct import construct_part
from rlopt.core.agreement import refused
from rlopt.core.heads import Head, Value
from rlopt.core.learner import Schedule
from rlopt.core.parts import Metric, Solver
from rlopt.errors import UserError


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


def check_fit(parts: Mapping[str, Any], names: Mapping[str, str], where: str) -> None:
    """Solver and metric must fit, and an adaptive optimizer must not undo the metric's geometry."""
    metric, solver, step = parts["metric"], parts["solver"], parts["step"]
    lacking = solver.needs - metric.supplies
    if lacking:
        able = [name for name in choices("solver") if _part("solver", name).needs <= metric.supplies]
        raise UserError(
            f"{where}solver={names['solver']} cannot serve {where}metric={names['metric']}: it needs "
            f"{', '.join(sorted(lacking))}. These can: {', '.join(f'{where}solver={name}' for name in able)}"
        )
    if refusal := refused(parts["damping"], metric):
        raise UserError(f"{where}damping={names['damping']} cannot serve {where}metric={names['metric']}: {refusal}")
    damping = parts["damping"]
    if getattr(solver, "needs_damping", False) and not damping.current(damping.init()) > 0:
        raise UserError(f"{where}solver={names['solver']} needs damping above 0; set {where}damping.value=1e-3, say")
    if step.adaptive and names["metric"] != "identity":
        raise UserError(
            f"{where}step=optimizer with an adaptive optimizer rescales every coordinate and undoes "
            f"{where}metric={names['metric']}; choose {where}step=kl_line_search, {where}step=trust_region or "
            f"{where}optimizer=sgd"
        )


def check_first_step(metric: Metric, head: Head, schedule: Schedule, where: str) -> None:
    """A metric over the actions that were taken holds in the first step after a rollout only, and for policies."""
    if not getattr(metric, "first_step_only", False):
        return
    instead = f"{where}metric.samples=1 draws actions of its own, and null takes the closed form"
    if isinstance(head, Value):
        raise UserError(f"{where}metric.samples=taken: a critic takes no actions; {instead}")
    if schedule.epochs > 1 or schedule.minibatch is not None:
        raise UserError(
            f"{where}metric.samples=taken holds in the first step after a rollout only; add "
            f"{where}schedule=whole_batch {where}schedule.epochs=1, or type {instead}"
        )


def _part(group: str, name: str) -> Any:
    return construct_part(load(conf_dir() / group / f"{name}.yaml"), group)
