"""The methods, each as parts of rlopt's one update: theta <- theta + alpha (M + lambda I)^-1 g, with g = -grad f."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments.landscapes.functions import Landscape
from rlopt.core.damping.constant import Constant
from rlopt.core.damping.levenberg_marquardt import LevenbergMarquardt
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.gauss_newton import GaussNewton
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.metrics.mahalanobis import Mahalanobis
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.diagonal import Diagonal
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.lbfgs import LBFGS
from rlopt.core.solvers.power import Power
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update

CONSTANT = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0, "total_iters": 1}


class Method(NamedTuple):
    """Metric, solver, damping and step; the objective and its network come from the landscape."""

    metric: Any
    solver: Any
    damping: Any
    step: Any


def torch_optim(name: str, scheduler: dict[str, Any] | None = None, **options: Any) -> Method:
    step = Optimizer({"_target_": f"torch.optim.{name}", **options}, scheduler or CONSTANT, None)
    return Method(Euclidean(), Identity(), Constant(0.0), step)


def gradient_descent(rate: float) -> Method:
    return Method(Euclidean(), Identity(), Constant(0.0), Fixed(rate))


def line_search(rate: float = 1.0) -> Method:
    return Method(Euclidean(), Identity(), Constant(0.0), Armijo(rate, 0.5, 40, 1e-4))


def momentum(rate: float, mu: float = 0.9) -> Method:
    return torch_optim("SGD", lr=rate, momentum=mu)


def nesterov(rate: float, mu: float = 0.9) -> Method:
    return torch_optim("SGD", lr=rate, momentum=mu, nesterov=True)


def adagrad(rate: float, form: str = "diagonal", epsilon: float = 1e-20) -> Method:
    """Epsilon within the root, as the notes have it."""
    return Method(GradientHistory(None, form), Power(-0.5), Constant(epsilon), Fixed(rate))


def preconditioned(rate: float, R: Tensor) -> Method:
    """Gradient descent with the preconditioner R R^T: M = (R R^T)^-1."""
    M = torch.linalg.inv(R @ R.t())
    given = tuple(map(tuple, ((M + M.t()) / 2).tolist()))
    return Method(Mahalanobis(None, given, None), Dense("refuse"), Constant(0.0), Fixed(rate))


SEARCH = Armijo(1.0, 0.5, 40, 1e-4)
LM = LevenbergMarquardt(1.0, 0.25, 0.75, 2.0, 1 / 3, 1e-12, 1e12)


def second_order(metric: str, solver: str = "dense", damping: float | Any = 1e-12, step: Any = SEARCH) -> Method:
    """Solvers: plain (refuses negative curvature), dense (takes it by its size), cg, diagonal, kfac, lbfgs."""
    metrics = {"hessian": Hessian(), "gauss_newton": GaussNewton(), "ggn": GGN("clipped"), "fisher": Fisher(None, 0)}
    solvers = {
        "plain": Dense("refuse"),
        "dense": Dense("absolute"),
        "cg": CG(100, 1e-10, None, "cold", 0.0),
        "diagonal": Diagonal("exact", 1, 0, 4096),
        "kfac": KFAC("exact", 0.0, 1, 1),
        "lbfgs": LBFGS(10, 1e-8, "products"),
    }
    lam = Constant(damping) if isinstance(damping, float) else damping
    return Method(metrics[metric], solvers[solver], lam, step)


class Point(NamedTuple):
    theta: Tensor  # (P,)
    state: dict[str, Any]  # of the update


def iterate(landscape: Landscape, method: Method, schedule: bool = False) -> Iterator[Point]:
    """theta_0, theta_1, ... without end; ``schedule`` moves the learning rate on after each update.

    Where an update fails, theta stays where it is.
    """
    update = Update(landscape.network, landscape.head, landscape.objective, *method)
    theta = landscape.start.clone()
    state = update.init(theta)
    while True:
        yield Point(theta, state)
        theta = theta.clone()  # an optimizer changes its own in place
        theta, state, _ = update(theta, state, landscape.samples)
        if schedule:
            state = {**state, "step": method.step.advance(state["step"])}


def path(landscape: Landscape, method: Method, steps: int, schedule: bool = False) -> Tensor:
    """(steps + 1, P), or fewer where theta leaves every bound."""
    found = []
    for point in iterate(landscape, method, schedule):
        if not point.theta.abs().max() < 1e8:
            break
        found.append(point.theta)
        if len(found) == steps + 1:
            break
    return torch.stack(found)


def count(landscape: Landscape, method: Method, tolerance: float, limit: int, schedule: bool = False) -> int | None:
    """Updates until f - f* <= tolerance (f_0 - f*); None where ``limit`` do not suffice, f blows up or theta stays."""
    first, before = landscape.error(landscape.start), None
    for k, point in enumerate(iterate(landscape, method, schedule)):
        error = landscape.error(point.theta)
        if error <= tolerance * first:
            return k
        if k >= limit or not error < 1e6 * first or (before is not None and torch.equal(point.theta, before)):
            return None
        before = point.theta
    return None


def tuned(
    landscape: Landscape, make: Callable[[float], Method], rates: list[float], tolerance: float, limit: int
) -> tuple[int | None, float | None]:
    """The least count over the rates, and the rate that has it; no lower rate is tried once two in a row were worse."""
    best: tuple[int | None, float | None] = None, None
    worse = 0
    for rate in sorted(rates, reverse=True):
        found = count(landscape, make(rate), tolerance, limit if best[0] is None else best[0] - 1)
        worse = worse + 1 if found is None else 0
        if found is not None:
            best = found, float(rate)
        elif best[0] is not None and worse == 2:
            break
    return best


class _Low(Exception):
    """f is low enough."""


def torch_lbfgs(landscape: Landscape, tolerance: float, limit: int) -> int | None:
    """Evaluations of f and its gradient by torch.optim.LBFGS with a strong Wolfe search until f is low enough."""
    theta = torch.nn.Parameter(landscape.start.clone())
    first, calls = landscape.error(landscape.start), 0
    optimizer = torch.optim.LBFGS([theta], max_iter=limit, history_size=10, line_search_fn="strong_wolfe",
                                  tolerance_grad=0.0, tolerance_change=0.0)  # fmt: skip

    def closure() -> float:
        nonlocal calls
        here = theta.detach().clone()
        if landscape.error(here) <= tolerance * first:
            raise _Low
        calls += 1
        theta.grad = -ascent(landscape, here)
        return landscape.error(here)

    try:
        optimizer.step(closure)
    except _Low:
        return calls
    return None


@torch.no_grad()
def ascent(landscape: Landscape, theta: Tensor) -> Tensor:
    """(P,) minus the gradient of f, by rlopt's tape."""
    tape = landscape.network.tape(theta, landscape.samples.inputs)
    _, dz = landscape.objective.values_and_gradient(landscape.head, tape.outputs, landscape.samples)
    return tape.vjp(dz * landscape.samples.share[:, None])
