"""Measured iteration counts against the bounds for L-smooth, mu-strongly convex f, kappa = L / mu.

    gradient descent, alpha = 2 / (L + mu)   h_k - h* <= L / 2 ((kappa - 1) / (kappa + 1))^2k |theta_0 - theta*|^2
    Nesterov                                 h_k - h* <= L (1 - 1 / sqrt kappa)^k |theta_0 - theta*|^2
    any first-order method, on the chain     h_k - h* >= mu / 2 ((sqrt kappa - 1) / (sqrt kappa + 1))^2k |...|^2
    gradient descent, alpha = 1 / L          h_k - h* <= L |theta_0 - theta*|^2 / 2 k         (no mu needed)

(James Martens, Optimization for Machine Learning; Nesterov, Introductory Lectures on Convex Optimization.) Nesterov's
alpha = 1 / L and friction (sqrt kappa - 1) / (sqrt kappa + 1); torch's parameters are his look-ahead points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.landscapes import functions, methods
from experiments.landscapes.functions import Landscape


def optimum(landscape: Landscape) -> Tensor:
    """theta* of a linear least-squares problem."""
    X, y = landscape.samples.inputs, landscape.samples.actions
    return torch.linalg.lstsq(X, y).solution.squeeze(1)


def upper(method: str, mu: float, L: float, distance: float, k: np.ndarray) -> np.ndarray:
    """Bound on h_k - h*; distance = |theta_0 - theta*|."""
    kappa = L / mu
    if method == "gradient descent":
        return L / 2 * ((kappa - 1) / (kappa + 1)) ** (2 * k) * distance**2
    return L * (1 - kappa**-0.5) ** k * distance**2


def lower(mu: float, L: float, distance: float, k: np.ndarray) -> np.ndarray:
    root = (L / mu) ** 0.5
    return mu / 2 * ((root - 1) / (root + 1)) ** (2.0 * k) * distance**2


def errors(landscape: Landscape, method: str, target: float, limit: int = 200_000) -> np.ndarray:
    """h_k - h* for k = 0, 1, ..., until it is at most target (h_0 - h*)."""
    mu, L = landscape.bounds
    first = landscape.error(landscape.start)
    found = [first]
    if method == "CG":
        while found[-1] > target * first and len(found) < limit:
            found.append(after_cg(landscape, len(found)))
        return np.array(found)
    friction = (1 - (mu / L) ** 0.5) / (1 + (mu / L) ** 0.5)
    nesterov = method == "Nesterov"
    chosen = methods.nesterov(1 / L, friction) if nesterov else methods.gradient_descent(2 / (L + mu))
    for k, point in enumerate(methods.iterate(landscape, chosen)):
        if k:
            theta = point.theta
            if nesterov:  # from the look-ahead point back to theta_k = theta_{k-1} + v_k
                theta = theta + friction / L * point.state["step"]["moments"]["momentum_buffer"]
            found.append(landscape.error(theta))
        if found[-1] <= target * first or k >= limit:
            return np.array(found)
    raise AssertionError


def after_cg(landscape: Landscape, iterations: int) -> float:
    """h - h* after this many of rlopt's CG: one update with M = H, alpha = 1."""
    cg = methods.CG(iterations, 0.0, None, "cold", 0.0)
    one = methods.Method(methods.Hessian(), cg, methods.Constant(0.0), methods.Fixed(1.0))
    return landscape.error(methods.path(landscape, one, 1)[-1])


def cg_count(landscape: Landscape, target: float) -> int:
    """The same number as len(errors(...)) - 1, by bisection."""
    first, low, high = landscape.error(landscape.start), 0, 1
    while after_cg(landscape, high) > target * first:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if after_cg(landscape, middle) > target * first else (low, middle)
    return high


def random_quadratics(count: int = 20, target: float = 1e-8) -> list[dict[str, Any]]:
    """Counts and bounds on quadratics of 2 to 40 dimensions with kappa between 3 and 1000."""
    rows = []
    rng = np.random.default_rng(0)
    for i in range(count):
        size, kappa = int(rng.integers(2, 41)), float(10 ** rng.uniform(np.log10(3), 3))
        inner = np.sort(10 ** rng.uniform(-np.log10(kappa), 0, size - 2))
        H = functions.rotated(torch.tensor([1 / kappa, *inner, 1.0]), seed=i) * float(10 ** rng.uniform(-2, 2))
        landscape = functions.quadratic("random", "", H, torch.tensor(rng.normal(size=size)))
        mu, L = landscape.bounds
        distance = float(landscape.start.norm())
        row = {"size": size, "kappa": kappa}
        for method in ("gradient descent", "Nesterov"):
            found = errors(landscape, method, target)
            k = np.arange(len(found))
            bound = upper(method, mu, L, distance, k)
            goal = target * found[0]
            promised = np.argmax(upper(method, mu, L, distance, np.arange(100_000)) <= goal)
            row[method] = {
                "measured": len(found) - 1,
                "bound": int(promised),
                "worst": float((found / bound).max()),  # of (h_k - h*) / bound over k
            }
        flat = methods.path(landscape, methods.gradient_descent(1 / L), 300)[1:]
        sublinear = L * distance**2 / (2 * np.arange(1, len(flat) + 1))
        row["1/k"] = float((np.array([landscape.error(t) for t in flat]) / sublinear).max())
        rows.append(row)
    return rows


METHODS = ("gradient descent", "Nesterov", "CG")


def exponents(kappas: list[float], target: float = 1e-6, per_root: float = 10.0) -> dict[str, Any]:
    """Counts on the chain of n = per_root sqrt kappa, and the slope of log count in log kappa by least squares."""
    counts: dict[str, list[int]] = {method: [] for method in METHODS}
    for kappa in kappas:
        landscape = functions.chain(kappa, int(per_root * kappa**0.5))
        for method in METHODS:
            found = cg_count(landscape, target) if method == "CG" else len(errors(landscape, method, target)) - 1
            counts[method].append(found)
    slopes = {m: float(np.polyfit(np.log(kappas), np.log(c), 1)[0]) for m, c in counts.items()}
    return {"kappas": kappas, "target": target, "counts": counts, "exponents": slopes}


def curves(kappa: float = 100.0, size: int = 200, target: float = 1e-8) -> dict[str, Any]:
    """h_k - h* on one chain beside every bound."""
    landscape = functions.chain(kappa, size)
    mu, L = landscape.bounds
    distance = float(optimum(landscape).norm())
    measured = {method: errors(landscape, method, target) for method in METHODS}
    k = np.arange(max(map(len, measured.values())))
    bounds = {f"upper, {m}": upper(m, mu, L, distance, k).tolist() for m in METHODS[:2]}
    least = lower(mu, L, distance, k)
    margin = {m: float((e / least[: len(e)]).min()) for m, e in measured.items()}
    return {
        "kappa": kappa,
        "size": size,
        "measured": {m: e.tolist() for m, e in measured.items()},
        "bounds": {**bounds, "lower, any": least.tolist()},
        "least_over_lower": margin,
    }


def convex_rates(steps: int = 2000, size: int = 80) -> dict[str, Any]:
    """h_k - h* where mu is as good as 0: 1 / k against 1 / k^2.

    A quadratic with eigenvalues from 1e-9 to 1, evenly in log, and as far to go along each: sum_i mu_i (1 - mu_i)^2k
    is then of order 1 / k as long as 1 / k is above the least. Nesterov's momentum (k - 1) / (k + 2), which is not
    constant, is written out.
    """
    landscape = functions.quadratic("flat", "", torch.diag(torch.logspace(-9, 0, size)), torch.ones(size))
    thetas = {
        "gradient descent": methods.path(landscape, methods.gradient_descent(1.0), steps),
        "Polyak, μ = .9": methods.path(landscape, methods.momentum(1.0, 0.9), steps),
    }
    x = y = landscape.start
    path = [x]
    for k in range(1, steps + 1):
        new = y + methods.ascent(landscape, y)
        x, y = new, new + (k - 1) / (k + 2) * (new - x)
        path.append(x)
    thetas["Nesterov, μ = (k - 1) / (k + 2)"] = torch.stack(path)
    curves = {name: [landscape.error(t) for t in found] for name, found in thetas.items()}
    k = np.arange(steps + 1)
    late = k >= steps // 10
    slopes = {n: float(np.polyfit(np.log(k[late]), np.log(np.array(c)[late]), 1)[0]) for n, c in curves.items()}
    return {"curves": curves, "slopes": slopes, "distance_squared": float(size)}


def pessimism(target: float = 1e-8) -> list[dict[str, Any]]:
    """kappa = 1000 and 40 dimensions throughout; what the condition number does not see."""
    spectra = {
        "spread evenly in log": torch.logspace(-3, 0, 40),
        "two clusters": torch.cat([torch.full((20,), 1e-3), torch.ones(20)]),
        "one small eigenvalue": torch.cat([torch.full((1,), 1e-3), torch.ones(39)]),
        "one small, not started along": torch.cat([torch.full((1,), 1e-3), torch.logspace(-1, 0, 39)]),
    }
    rows = []
    for name, mu in spectra.items():
        start = torch.randn(40, generator=torch.Generator().manual_seed(4))
        if "not started" in name:
            start[0] = 0.0
        landscape = functions.quadratic("spectrum", name, torch.diag(mu), start)
        row: dict[str, Any] = {"spectrum": name}
        for method in METHODS:
            found = errors(landscape, method, target)
            row[method] = len(found) - 1
        rows.append(row)
    return rows
