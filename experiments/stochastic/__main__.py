"""Stochastic optimisation: what the notes claim of noise and what is done against it. Data to results/, figures beside.

scripts/reproduce stochastic             a few minutes
scripts/reproduce stochastic --quick     fewer seeds and steps, under a minute; into runs/stochastic-quick
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the matrices are small

import numpy as np
import torch
from scipy import stats

from experiments._shared import study
from experiments.stochastic import curvature, descent, figures, problems
from experiments.stochastic.problems import Problem
from rlopt.parallel.processes import use_one_thread

HERE = Path(__file__).parent
KINDS = ("linear", "logistic")


def rate(steps: int, seeds: int) -> dict[str, Any]:
    """k (h - h*) / constant, mean and 95% interval over the seeds, from theta* + 1/2 in every coordinate."""
    at = descent.spaced(steps, 25)
    found: dict[str, Any] = {"at": at, "seeds": seeds}
    for kind in KINDS:
        p = problems.make(kind)
        start, a = p.optimum + 0.5, 1 / p.L
        falling = descent.power(a, 0.01, 0.6)
        newton = torch.linalg.inv(p.hessian)
        runs = {
            "SGD, k^-.6, uniform average": (falling, {}, "uniform"),
            "momentum .9, k^-.6, uniform average": (descent.power(a / 10, 0.01, 0.6), {"momentum": 0.9}, "uniform"),
            "Newton, 1 / (k + 50)": (descent.inverse(1 / 50, 1 / 50), {"P": newton}, "last"),
            "SGD, k^-.6, EMA .99": (falling, {}, "ema"),
            "SGD, k^-.6, last": (falling, {}, "last"),
        }
        averages = {"uniform": descent.UNIFORM, "ema": descent.EMA}
        found[kind] = {"constant": p.constant}
        for name, (schedule, options, which) in runs.items():
            thetas = descent.sgd(p, start, schedule, at, seeds, averages, **options)[which]
            found[kind][name] = [
                [k * x / p.constant for x in descent.interval(p.excess(theta))]
                for k, theta in zip(at, thetas, strict=True)
            ]
    return found


def schedules(steps: int, seeds: int) -> dict[str, Any]:
    """h - h* under schedules that do and do not satisfy sum a = inf, sum a^2 < inf."""
    at = descent.spaced(steps)
    found: dict[str, Any] = {"at": at, "seeds": seeds}
    for kind in KINDS:
        p = problems.make(kind)
        a = 1 / p.L
        runs = {
            "constant": (descent.constant(a), "last"),
            "constant, averaged": (descent.constant(a), "uniform"),
            "1 / k, a μ = 1": (lambda k, p=p, a=a: min(a, 1 / p.mu / (k + 1)), "last"),
            "1 / k, a μ = .1": (lambda k, p=p, a=a: min(a, 0.1 / p.mu / (k + 1)), "last"),
            "1 / k²": (lambda k, a=a: a / (1 + 0.01 * k) ** 2, "last"),
            "k^-.6, averaged": (descent.power(a, 0.01, 0.6), "uniform"),
        }
        found[kind] = {}
        for name, (schedule, which) in runs.items():
            thetas = descent.sgd(p, p.optimum + 2.0, schedule, at, seeds, {"uniform": descent.UNIFORM})[which]
            found[kind][name] = [float(p.excess(theta).mean()) for theta in thetas]
    return found


def mean_path(steps: int, seeds: int) -> dict[str, Any]:
    """Whether E theta_k is gradient descent's theta_k: Hotelling's T^2 over its 95% quantile for all k at once.

    Above 1 it is not. Half the usual step, so that the tails are those the quantile is for.
    """
    at = descent.spaced(steps, 14)
    found: dict[str, Any] = {"at": at, "seeds": seeds}
    for kind in KINDS:
        p = problems.make(kind)
        start, rate = p.optimum + 2.0, 0.5 / p.L
        thetas = descent.sgd(p, start, descent.constant(rate), at, seeds)["last"]
        exact, theta = {}, start[None]
        for k in range(1, steps + 1):
            theta = theta - rate * p.full(theta)
            exact[k] = theta[0]
        rows = []
        for k, sample in zip(at, thetas, strict=True):
            off = sample.mean(0) - exact[k]
            t2 = float(seeds * off @ torch.linalg.solve(torch.cov(sample.t()), off)) if k > p.a.shape[1] else np.nan
            rows.append(t2 / stats.chi2.ppf(1 - 0.05 / len(at), len(off)))
        found[kind] = [None if np.isnan(row) else row for row in rows]
    return found


def early(steps: int, seeds: int) -> dict[str, Any]:
    """h - h* of an ill-conditioned quadratic from far away; the same asymptotic rate for all."""
    p = problems.make("linear", terms=500, size=10, kappa=1e3)
    start, at, a = p.optimum + 5.0, descent.spaced(steps), 1 / p.L
    newton = torch.linalg.inv(p.hessian)
    runs = {
        "SGD, k^-.6, uniform average": (descent.power(a, 0.001, 0.6), {}, "uniform"),
        "the same, momentum .9, a third of the step": (descent.power(a / 3, 0.001, 0.6), {"momentum": 0.9}, "uniform"),
        "the same, momentum .9, the same step": (descent.power(a, 0.001, 0.6), {"momentum": 0.9}, "uniform"),
        "Newton, 1 / (k + 50)": (descent.inverse(1 / 50, 1 / 50), {"P": newton}, "last"),
    }
    found: dict[str, Any] = {"at": at, "constant": p.constant, "kappa": p.a.square().mean(0).max().item() / p.mu}
    for name, (schedule, options, which) in runs.items():
        thetas = descent.sgd(p, start, schedule, at, seeds, {"uniform": descent.UNIFORM}, **options)[which]
        found[name] = [float(p.excess(theta).mean()) for theta in thetas]
    return found


def overlap() -> dict[str, Any]:
    """Gradient descent from far away: |mean_i g_i|^2 / mean_i |g_i|^2, which is 1 where all terms agree."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        p = problems.make(kind)
        theta, rows = p.optimum[None] + 5.0, []
        index = torch.arange(len(p.a))[:, None]
        for _ in range(300):
            each = p.gradient(theta.expand(len(p.a), -1), index)
            rows.append(float(each.mean(0).square().sum() / each.square().sum(1).mean()))
            theta = theta - p.full(theta) / p.L
        found[kind] = rows
    return found


def reduction(passes: int, seeds: int) -> dict[str, Any]:
    """h - h* against passes over the terms, mean over seeds; and the fitted factor per pass, with its r^2."""
    found: dict[str, Any] = {"passes": passes, "seeds": seeds}
    for kind in KINDS:
        p = problems.make(kind)
        m, start, a = len(p.a), p.optimum + 2.0, 1 / p.L
        at = [m * i for i in range(1, passes + 1)]
        initial = float(p.excess(start[None])[0])
        curves = {
            "SGD, constant": [initial, *_means(p, descent.sgd(p, start, descent.constant(a), at, seeds)["last"])],
            "SGD, k^-.6, averaged": [
                initial,
                *_means(
                    p,
                    descent.sgd(p, start, descent.power(a, 0.01, 0.6), at, seeds, {"u": descent.UNIFORM})["u"],
                ),
            ],
            "SAG": descent.sag(p, start, a, passes, seeds).mean(1).tolist(),
            "SVRG": descent.svrg(p, start, 0.5 * a, passes, seeds).mean(1).tolist(),
        }
        found[kind] = {"curves": curves, "fits": {name: _linear(curve, name) for name, curve in curves.items()}}
    return found


def _means(p: Problem, thetas: torch.Tensor) -> list[float]:
    return [float(p.excess(theta).mean()) for theta in thetas]


def _linear(curve: list[float], name: str) -> dict[str, float]:
    """log error = line in passes, over the part above rounding; SVRG's points are 3 passes apart."""
    y = np.array(curve)
    end = int(np.argmax(y < 1e-13)) or len(y)
    x = np.arange(end) * (3 if name == "SVRG" else 1)
    later = slice(end // 4, end)
    fit = stats.linregress(x[later], np.log(y[:end][later]))
    return {"factor_per_pass": float(np.exp(fit.slope)), "r_squared": float(fit.rvalue**2), "last": float(y[-1])}


def curvatures(steps: int, seeds: int) -> dict[str, Any]:
    p = dataclasses.replace(problems.make("logistic"), ridge=0.0)
    return {
        "errors": curvature.errors(p, steps, 10, 0.3, seeds),
        "kfac": curvature.kfac(p, steps // 4, 10, 0.2, 4 * seeds),
        "steps": steps,
        "batch": 10,
    }


def claims(results: dict[str, Any], quick: bool) -> list[tuple[str, bool]]:
    held = []
    for kind in KINDS:
        found = results["rate"][kind]
        for name in ("SGD, k^-.6, uniform average",) if quick else list(found)[1:4]:
            mean, low, high = found[name][-1]
            near = abs(mean - 1) < 0.1 if not quick else abs(mean - 1) < 0.5
            text = f"{kind}: {name}: k (h - h*) = {mean:.3f} [{low:.3f}, {high:.3f}] of tr(H^-1 Sigma) / 2"
            held.append((text, near))
        fits = results["reduction"][kind]["fits"]
        for name in ("SAG", "SVRG"):
            f = fits[name]
            text = f"{kind}: {name}: factor {f['factor_per_pass']:.3f} a pass, r^2 = {f['r_squared']:.3f}"
            held.append((text, f["factor_per_pass"] < 0.9 and (quick or f["r_squared"] > 0.9)))
        ratio = fits["SGD, constant"]["last"] / max(fits["SVRG"]["last"], 1e-16)  # below that it is rounding
        held.append((f"{kind}: SGD with a constant step ends {ratio:.0e} times above SVRG", ratio > 1e2))
    return held


def plan(quick: bool) -> dict[str, Callable[[], Any]]:
    """Name of a file in results/ -> what makes its content."""
    return {
        "rate": lambda: rate(3_000 if quick else 100_000, 200 if quick else 1000),
        "schedules": lambda: schedules(2_000 if quick else 30_000, 50 if quick else 200),
        "mean_path": lambda: mean_path(200 if quick else 500, 500 if quick else 4000),
        "early": lambda: early(2_000 if quick else 50_000, 50 if quick else 200),
        "overlap": overlap,
        "reduction": lambda: reduction(15 if quick else 60, 5 if quick else 20),
        "curvature": lambda: curvatures(60 if quick else 400, 2 if quick else 20),
    }


def main() -> int:
    options = study.parser(
        "Stochastic gradient descent against its asymptotic rate.", "fewer seeds and steps", only=True
    ).parse_args()
    out = study.folder(HERE, options)
    use_one_thread()
    torch.set_default_dtype(torch.float64)
    results = study.results(plan(options.quick), options, out)
    figures.draw(out, results)
    return study.verdict(claims(results, options.quick), out)


if __name__ == "__main__":
    raise SystemExit(main())
