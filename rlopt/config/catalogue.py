"""Catalogue: the parts that there are, what they supply and need, and how they are typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlopt.config.choices import choices, nearest, parts
from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part
from rlopt.core.parts import BATCH, COMPATIBLE, KL, OBJECTIVE, PRODUCT, ROOT, SEMIDEFINITE, Metric, Solver
from rlopt.errors import UserError

_NEEDS = {  # what a solver needs -> the words for it; else the choices that supply it are named
    PRODUCT: "products of the metric with vectors",
    ROOT: "root factors of the metric in output space",
    BATCH: "a metric of one batch, since it averages over updates itself",
    SEMIDEFINITE: "a metric without negative curvature",
}


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
        raise UserError(
            f"none of the solvers {', '.join(solver_parts)} works with any of the metrics {', '.join(metric_parts)}; "
            "rlopt.guide.choosing says which do"
        )
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


def typed_choices(group: str, names: Sequence[str], prefix: str = "", between: str = ", ") -> str:
    """Choices as one types them: solver=cg, solver=dense."""
    return between.join(f"{prefix}{group}={name}" for name in names)


def solvers_for(
    metric: Metric, given: frozenset[str] = frozenset(), without: str = "", **requirements: Any
) -> list[str]:
    """Solvers that can serve a metric, do not need ``without``, and have these values of `Requirements`.

    Of ROOT one has no need that reads the root alone, and no layer records.
    """
    found = []
    for name in parts("solver"):
        solver = make_part("solver", name)
        wanted = all(getattr(solver.requirements, field) == value for field, value in requirements.items())
        needed = without in solver.needs and not solver.requirements.root_alone
        if wanted and not needed and solver.needs <= metric.supplies | given:
            found.append(name)
    return found


def describe_need(need: str, prefix: str) -> str:
    """What a solver needs, in words, or as the choices that supply it."""
    if need in _NEEDS:
        return _NEEDS[need]
    if need == COMPATIBLE:
        return f"the direction that {compatible_critics()} gives the policy"
    return " or ".join(f"{prefix}metric={name}" for name in metrics_supplying(need))


def metrics_supplying(*supplied: str) -> list[str]:
    """Metrics that supply one of these."""
    return [name for name in parts("metric") if set(supplied) & make_part("metric", name).supplies]


def measurable_choices(prefix: str) -> str:
    """Which metrics model what can be measured, and which dampings measure nothing."""
    dampings = [name for name in parts("damping") if not make_part("damping", name).measures]
    return f"{prefix}metric must be {either(metrics_supplying(KL, OBJECTIVE))}, or {prefix}damping {either(dampings)}"


def compatible_critics() -> str:
    """The critics that give the policy its direction, as one types them."""
    return either([f"critic={name}" for name in choices("critic") if read_choice("critic", name).get("compatible")])


def either(names: Sequence[str]) -> str:
    """a, b or c."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
