"""Preconditioning is gradient descent in other coordinates: with w = R u and P = R R^T,

u <- u - alpha R^T grad f(R u)      and      w <- w - alpha P grad f(w)      are the same path, w_t = R u_t
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.landscapes import functions, methods
from experiments.landscapes.functions import Landscape


def reparametrised(landscape: Landscape, R: Tensor) -> Landscape:
    """g(u) = f(R u), for a linear least-squares problem or Rosenbrock's."""
    if landscape.name == "rosenbrock":
        return functions.rosenbrock(R)
    samples = landscape.samples.replacing(inputs=landscape.samples.inputs @ R)
    start = torch.linalg.solve(R, landscape.start)
    return replace(landscape, f=lambda u: landscape.f(R @ u), start=start, samples=samples)


def change(size: int, seed: int) -> Tensor:
    """A matrix R that is neither symmetric nor diagonal, with singular values from .5 to 2."""
    generator = torch.Generator().manual_seed(seed)
    U, _, V = torch.linalg.svd(torch.randn(size, size, generator=generator))
    return U * torch.logspace(np.log10(0.5), np.log10(2), size) @ V


def same_path(landscape: Landscape, rate: float, steps: int, seed: int = 0) -> dict[str, Any]:
    """Both paths, in w, and their largest difference relative to the largest entry."""
    R = change(len(landscape.start), seed)
    within = methods.path(reparametrised(landscape, R), methods.gradient_descent(rate), steps) @ R.t()
    outside = methods.path(landscape, methods.preconditioned(rate, R), steps)
    plain = methods.path(landscape, methods.gradient_descent(rate), steps)
    return {
        "landscape": landscape.name,
        "title": landscape.title,
        "difference": float((within - outside).abs().max() / outside.abs().max()),
        "from_plain": float((plain - outside).abs().max() / outside.abs().max()),
        "reparametrised": within.tolist(),
        "preconditioned": outside.tolist(),
        "plain": plain.tolist(),
    }


def same_paths(steps: int = 300) -> list[dict[str, Any]]:
    cases = ((functions.example(), 0.01), (functions.canyon(), 2e-3), (functions.ill_conditioned(), 0.3),
             (functions.rosenbrock(), 1e-4))  # fmt: skip
    return [same_path(landscape, rate, steps) for landscape, rate in cases]


def invariance(steps: int = 15) -> list[dict[str, Any]]:
    """Methods on f(theta) and on f(R u), damping as good as none: how far apart w_t and R u_t are, relative."""
    landscape, R = functions.rosenbrock(), change(2, 5)
    chosen = {
        "gradient descent": methods.gradient_descent(1e-4),
        "Adam": methods.torch_optim("Adam", lr=0.05),
        "Newton": methods.second_order("hessian", damping=0.0, step=methods.Fixed(0.2)),
        "Gauss-Newton": methods.second_order("gauss_newton", damping=0.0, step=methods.Fixed(0.2)),
        "natural gradient": methods.second_order("fisher", damping=0.0, step=methods.Fixed(0.2)),
        "Gauss-Newton, λ = 1": methods.second_order("gauss_newton", damping=1.0, step=methods.Fixed(0.2)),
    }
    rows = []
    for name, method in chosen.items():
        w = methods.path(landscape, method, steps)
        u = methods.path(reparametrised(landscape, R), method, steps)
        rows.append({"method": name, "difference": float((u @ R.t() - w).abs().max() / w.abs().max())})
    return rows


def bent(rates: tuple[float, ...] = (0.4, 0.2, 0.1, 0.05, 0.025)) -> dict[str, Any]:
    """Gauss-Newton over one unit of time in (x, y), and in (x, y - x^2), which is a smooth but not a linear change.

    Rosenbrock's residuals are linear in the second coordinates. Differences of the ends, both in (x, y): a step of
    finite length is invariant to no more than the first order.
    """

    def straightened(q: Tensor) -> Tensor:
        return 2**0.5 * torch.stack([10 * q[1], 1 - q[0]])

    w = functions.rosenbrock()
    start = torch.stack([w.start[0], w.start[1] - w.start[0] ** 2])
    q = functions.residuals("straightened", "", straightened, start)
    found = []
    for rate in rates:
        method = methods.second_order("gauss_newton", damping=0.0, step=methods.Fixed(rate))
        steps = round(2 / rate)
        a, b = methods.path(w, method, steps)[-1], methods.path(q, method, steps)[-1]
        b = torch.stack([b[0], b[1] + b[0] ** 2])
        found.append(float((a - b).norm()))
    return {"rates": rates, "differences": found}


def by_data(correlations: tuple[float, ...] = (0.0, 0.5, 0.9, 0.99), tolerance: float = 1e-6, limit: int = 5000):
    """Linear regression on 6 features whose standard deviations go from .1 to 10: condition numbers and counts.

    Preconditioner P; the step is 2 / (L + mu) of the preconditioned Hessian.
    """
    rows = []
    deviations = torch.logspace(-1, 1, 6)
    for rho in correlations:
        H = deviations.outer(deviations) * (rho + (1 - rho) * torch.eye(6))
        variance = torch.diag(deviations**2)
        roots = {
            "none": torch.eye(6),
            "variance itself": variance.sqrt(),
            "1 / variance": torch.diag(1 / deviations),
            "inverse Hessian": torch.linalg.inv(torch.linalg.cholesky(H)).t(),
        }
        start = torch.linalg.solve(torch.diag(deviations), torch.ones(6) * torch.tensor([1.0, -1] * 3))
        landscape = functions.quadratic("regression", "", H, start)
        for name, R in roots.items():
            mu = torch.linalg.eigvalsh(R.t() @ H @ R)
            kappa = float(mu[-1] / mu[0])
            rate = float(2 / (mu[0] + mu[-1]))
            count = methods.count(landscape, methods.preconditioned(rate, R), tolerance, limit)
            rows.append({"correlation": rho, "preconditioner": name, "kappa": kappa, "updates": count})
    return rows
