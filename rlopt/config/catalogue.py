"""Catalogue: the parts that there are, what they supply and need, and how they are typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from rlopt.config.choices import USUAL_DAMPING, choices, file, nearest, parts, stands_for
from rlopt.config.overrides import to_overrides
from rlopt.config.saved import load, read_choice
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


def solvers_for(metric: Metric, given: frozenset[str] = frozenset(), **requirements: Any) -> list[str]:
    """Solvers that can serve a metric, and have these values of `Requirements`."""
    found = []
    for name in parts("solver"):
        solver = make_part("solver", name)
        wanted = all(getattr(solver.requirements, field) == value for field, value in requirements.items())
        if wanted and solver.needs <= metric.supplies | given:
            found.append(name)
    return found


def usual_dampings(solvers: Sequence[str]) -> dict[str, float]:
    """Solver -> lambda of the damping that its file says goes with it, for those whose file names one."""
    named = {name: load(file("solver", name)).get(USUAL_DAMPING) for name in solvers}
    dampings = {name: make_part("damping", choice) for name, choice in named.items() if choice}
    return {name: float(damping.current(damping.init())) for name, damping in dampings.items()}


def inner_solver(solver: Solver) -> tuple[str, Solver] | None:
    """The option of a solver that holds another solver, and that one; None where there is none."""
    held = ((option, getattr(solver, option, None)) for option in ("preconditioner", "of"))
    return next(((option, inner) for option, inner in held if inner is not None), None)


def inner_choices(update: Any, prefix: str, suits: Callable[[Solver], bool] = lambda solver: True) -> str:
    """Solvers as one types them, which ``suits`` is true of, that can take the place of the one in the update's solver.

    A preconditioner need not be there at all.
    """
    option, _ = cast("tuple[str, Solver]", inner_solver(update.solver))
    names = ["null"] if option == "preconditioner" else []
    for name in parts("solver"):
        inner = make_part("solver", name)
        try:
            whole = replace(update.solver, **{option: inner})
        except ValueError:  # it is of another kind
            continue
        if whole.needs <= update.metric.supplies and suits(inner):
            names.append(name)
    return ", ".join(f"{prefix}solver.{option}={name}" for name in names)


def instead_of(update: Any, prefix: str, suits: Callable[[Solver], bool]) -> tuple[str, str]:
    """What is refused, the solver or the one within it, and others that ``suits`` is true of, as one types them.

    Where one option of the refused solver makes the difference, that option stands for the solver itself.
    """
    inner = inner_solver(update.solver)
    if inner and not suits(inner[1]):
        refused, others = inner[1], inner_choices(update, prefix, suits).split(", ")
        option = f"{prefix}solver.{inner[0]}"
    else:
        refused, option = update.solver, f"{prefix}solver"
        able = [name for name in solvers_for(update.metric) if suits(make_part("solver", name))]
        others = [f"{option}={name}" for name in able]
    typed = f"{option}={stands_for(refused)}"
    if typed in others:
        others.remove(typed)
        others = [*_options(refused, option, suits), *others]
    return typed, ", ".join(others)


def _options(refused: Any, option: str, suits: Callable[[Solver], bool]) -> list[str]:
    """Single options with which ``suits`` is true of a solver, each with the value of its file, as one types them."""
    usual, found = make_part("solver", stands_for(refused)), {}
    for name in (field.name for field in fields(refused)) if is_dataclass(refused) else ():
        try:
            if suits(replace(refused, **{name: getattr(usual, name)})):
                found[name] = getattr(usual, name)
        except ValueError:  # it does not go with the others
            continue
    return to_overrides(found, f"{option}.")


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
