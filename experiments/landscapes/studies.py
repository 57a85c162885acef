"""What the notes say of steps, momentum, adaptive methods, damping and schedules, each measured on a landscape."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from experiments.landscapes import functions, methods
from experiments.landscapes.functions import Landscape

TOLERANCE = 1e-6  # of f - f* relative to the start


def race(limit: int = 500, density: int = 2) -> dict[str, Any]:
    """Updates to the tolerance, for every method with the best of its rates, or dampings, on a grid in log."""
    rates = list(np.logspace(-3, 1.5, 4 * density + density // 2 + 1))
    dampings = [1e-12, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
    make: dict[str, tuple[Callable[[float], methods.Method], list[float]]] = {
        "gradient descent": (methods.gradient_descent, rates),
        "line search": (methods.line_search, [1.0]),
        "momentum .9": (methods.momentum, rates),
        "Nesterov .9": (methods.nesterov, rates),
        "AdaGrad, diagonal": (methods.adagrad, rates),
        "AdaGrad, full": (partial(methods.adagrad, form="full"), rates),
        "AdaDelta": (lambda r: methods.torch_optim("Adadelta", lr=r), rates),
        "RMSprop": (lambda r: methods.torch_optim("RMSprop", lr=r, alpha=0.9), rates),
        "Adam": (lambda r: methods.torch_optim("Adam", lr=r), rates),
        "L-BFGS (M s pairs)": (lambda d: methods.second_order("hessian", "lbfgs", d), dampings),
        "CG on the Hessian": (lambda d: methods.second_order("hessian", "cg", d), dampings),
        "Newton": (lambda d: methods.second_order("hessian", "dense", d), dampings),
        "Gauss-Newton": (lambda d: methods.second_order("gauss_newton", "dense", d), dampings),
        "natural gradient": (lambda d: methods.second_order("fisher", "dense", d), dampings),
        "K-FAC": (lambda d: methods.second_order("fisher", "kfac", d), dampings),
    }
    rows = []
    for landscape in (functions.example(), functions.canyon(), functions.ill_conditioned(), functions.rosenbrock(),
                      functions.network(), functions.bumpy()):  # fmt: skip
        tolerance = 1e-3 if landscape.name == "network" else TOLERANCE
        for name, (build, grid) in make.items():
            if _unfit(landscape, name):
                continue
            count, chosen = methods.tuned(landscape, build, grid, tolerance, limit)
            rows.append({"landscape": landscape.name, "method": name, "updates": count, "chosen": chosen})
        calls = methods.torch_lbfgs(landscape, tolerance, limit)
        rows.append({"landscape": landscape.name, "method": "torch L-BFGS (calls)", "updates": calls, "chosen": None})
    return {"limit": limit, "rows": rows}


def _unfit(landscape: Landscape, name: str) -> bool:
    """K-FAC needs layers, Gauss-Newton and Fisher residuals."""
    if name == "K-FAC":
        return not landscape.layered
    return landscape.name == "bumpy" and name in ("Gauss-Newton", "natural gradient")


def paths(steps: int = 60) -> dict[str, Any]:
    """Where the methods go in two dimensions."""
    found = {}
    for landscape, rate in ((functions.canyon(), 0.018), (functions.example(), 0.07), (functions.rosenbrock(), 1e-3)):
        root = (landscape.bounds[0] / landscape.bounds[1]) ** 0.5 if landscape.bounds else 0.05
        mu = (1 - root) / (1 + root)
        chosen = {
            "gradient descent": methods.gradient_descent(rate),
            "momentum": methods.momentum(rate / 2, mu),
            "Nesterov": methods.nesterov(rate / 2, mu),
            "Adam": methods.torch_optim("Adam", lr=0.2),
            "Newton": methods.second_order("hessian"),
        }
        count = steps if landscape.bounds else 6 * steps
        found[landscape.name] = {n: methods.path(landscape, m, count).tolist() for n, m in chosen.items()}
    return found


def steps_of_length(limit: int = 3000) -> dict[str, Any]:
    """f after k updates with steps too small, adequate, too large and by line search; and counts against the step."""
    found: dict[str, Any] = {"curves": {}, "counts": {}}
    for landscape in (functions.example(), functions.canyon()):
        mu, L = landscape.bounds
        chosen = {"too small": 0.05 / L, "adequate": 2 / (L + mu), "too large": 2.1 / L}
        curves = {n: methods.path(landscape, methods.gradient_descent(r), 60) for n, r in chosen.items()}
        curves["line search"] = methods.path(landscape, methods.line_search(), 60)
        found["curves"][landscape.name] = {n: [landscape.error(t) for t in p] for n, p in curves.items()}
        relative = np.logspace(-1.5, 0.5, 21)
        counts = [methods.count(landscape, methods.gradient_descent(a / L), TOLERANCE, limit) for a in relative]
        searched = methods.count(landscape, methods.line_search(), TOLERANCE, limit)
        found["counts"][landscape.name] = {
            "L": L, "alpha_L": relative.tolist(), "updates": counts, "line_search": searched
        }  # fmt: skip
    return found


def escape(steps: int = 300, starts: int = 37, rate: float = 0.1) -> dict[str, Any]:
    """Which minimum of the bumpy landscape is reached, by momentum and by start; and one path of each."""
    xs = np.linspace(-9, 9, starts)
    found: dict[str, Any] = {"starts": xs.tolist(), "ends": {}, "paths": {}, "rate": rate}
    for mu in (0.0, 0.5, 0.9, 0.95):
        method = methods.momentum(rate, mu) if mu else methods.gradient_descent(rate)
        ends = [methods.path(functions.bumpy(float(x)), method, steps)[-1] for x in xs]
        found["ends"][str(mu)] = [float(end[0]) for end in ends]
    for name, method in {
        "gradient descent": methods.gradient_descent(rate),
        "momentum .9": methods.momentum(rate),
    }.items():
        found["paths"][name] = methods.path(functions.bumpy(), method, 100).tolist()
    noise = np.random.default_rng(0).normal(size=40)
    near = [methods.path(functions.bumpy(-5.24 + 0.1 * e), methods.gradient_descent(rate), steps)[-1] for e in noise]
    found["from_noise"] = [float(end[0]) for end in near]
    return found


def damping(limit: int = 300, density: int = 2) -> dict[str, Any]:
    """Steps of Newton's and Gauss-Newton's own length, undamped, with lambda constant, and Levenberg-Marquardt's."""
    lambdas = np.logspace(-5, 3, 8 * density + 1).tolist()
    cases = {
        "Rosenbrock, Gauss-Newton": (functions.rosenbrock(), "ggn", TOLERANCE),
        "Rosenbrock from (0, .5), Newton": (functions.rosenbrock().at(torch.tensor([0.0, 0.5])), "hessian", TOLERANCE),
        "tanh network, Gauss-Newton": (functions.network(), "ggn", 1e-3),
        "tanh network, Newton": (functions.network(), "hessian", 1e-3),
    }
    rows = []
    for name, (landscape, metric, tolerance) in cases.items():

        def updates(lam: Any, solver: str, step: Any) -> int | None:
            return methods.count(landscape, methods.second_order(metric, solver, lam, step), tolerance, limit)  # noqa: B023

        own = methods.Fixed(1.0)
        rows.append({
            "case": name,
            "undamped": None if _indefinite(landscape, metric) else updates(0.0, "plain", own),
            "indefinite_at_start": _indefinite(landscape, metric),
            "constant": [updates(lam, "dense", own) for lam in lambdas],
            "levenberg_marquardt": updates(methods.LM, "dense", methods.SEARCH),
        })  # fmt: skip
    return {"lambdas": lambdas, "rows": rows, "limit": limit}


def _indefinite(landscape: Landscape, metric: str) -> bool:
    tape = landscape.network.tape(landscape.start, landscape.samples.inputs)
    part = methods.second_order(metric).metric
    curvature, _ = part.bind({}, tape, landscape.head, landscape.samples, landscape.objective)
    return bool(torch.linalg.eigvalsh(curvature.dense())[0] < -1e-10)


def schedules(steps: int = 400) -> dict[str, Any]:
    """Errors on the canyon under learning-rate schedules, and where momentum is lowered half-way."""
    landscape = functions.canyon()
    falling = {
        "constant": None,
        "1 / k": {"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": 0.05},
        "linear": {
            "_target_": "torch.optim.lr_scheduler.LinearLR",
            "start_factor": 1.0,
            "end_factor": 0.0,
            "total_iters": steps,
        },
        "cosine": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": steps, "eta_min": 0.0},
    }
    found: dict[str, Any] = {"RMSprop": {}, "Adam": {}, "momentum": {}}
    for name, scheduler in falling.items():
        for method, options in (("RMSprop", {"lr": 0.1, "alpha": 0.9}), ("Adam", {"lr": 1.0})):
            path = methods.path(landscape, methods.torch_optim(method, scheduler, **options), steps, schedule=True)
            found[method][name] = [landscape.error(t) for t in path]
    for name, late in ((".98 throughout", 0.98), (".98, then .8", 0.8), (".98, then 0", 0.0)):
        first = methods.path(landscape, methods.momentum(0.015, 0.98), steps // 2)
        method = methods.momentum(0.015, late) if late else methods.gradient_descent(0.015)
        if late == 0.98:
            path = methods.path(landscape, methods.momentum(0.015, 0.98), steps)
        else:
            path = torch.cat([first, methods.path(landscape.at(first[-1]), method, steps - steps // 2)[1:]])
        found["momentum"][name] = [landscape.error(t) for t in path]
    return found


def rotation(limit: int = 500, density: int = 2, angles: tuple[float, ...] = (0, 5, 15, 30, 45)) -> dict[str, Any]:
    """Updates on the canyon turned against the axes, each method at its best rate: who depends on the axes."""
    rates = list(np.logspace(-3, 1.5, 4 * density + density // 2 + 1))
    make: dict[str, Callable[[float], methods.Method]] = {
        "gradient descent": methods.gradient_descent,
        "AdaGrad, diagonal": methods.adagrad,
        "AdaGrad, full": partial(methods.adagrad, form="full"),
        "RMSprop": lambda r: methods.torch_optim("RMSprop", lr=r, alpha=0.9),
        "Adam": lambda r: methods.torch_optim("Adam", lr=r),
        "diagonal of H": lambda r: methods.second_order("gauss_newton", "diagonal", 1e-12, methods.Fixed(r)),
        "Newton": lambda r: methods.second_order("hessian"),
    }
    found: dict[str, Any] = {"angles": angles, "limit": limit, "updates": {}}
    for name, build in make.items():
        grid = [1.0] if name == "Newton" else [0.5, 0.7, 1.0, 1.4] if name == "diagonal of H" else rates
        if name == "gradient descent":
            grid = [2 / 101]
        found["updates"][name] = [
            methods.tuned(functions.canyon(100.0, a), build, grid, TOLERANCE, limit)[0] for a in angles
        ]  # fmt: skip
    return found


def step_lengths(steps: int = 300) -> dict[str, list[float]]:
    """|step| / rate where the gradient is 1 at every step: AdaGrad's learning rate only ever falls."""
    t = np.arange(1, steps + 1)
    return {
        "AdaGrad": (1 / np.sqrt(t)).tolist(),
        "RMSprop, γ = .9": (1 / np.sqrt(1 - 0.9**t)).tolist(),
        "RMSprop, γ = .999": (1 / np.sqrt(1 - 0.999**t)).tolist(),
    }
