"""The methods as the notes write them, line by line, against torch.optim on the same gradients.

Epsilon, where a formula has one: `inside` is sqrt(v + eps), `outside` sqrt(v) + eps; torch has it outside everywhere
but in Adadelta.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.landscapes import functions, methods
from experiments.landscapes.functions import Landscape

Grad = Callable[[Tensor], Tensor]  # theta (P,) -> gradient of f


def adagrad(grad: Grad, w: Tensor, steps: int, rate: float, eps: float, inside: bool) -> list[Tensor]:
    G, path = torch.zeros_like(w), [w]
    for _ in range(steps):
        g = grad(w)
        G = G + g**2
        w = w - rate * g / ((G + eps).sqrt() if inside else G.sqrt() + eps)
        path.append(w)
    return path


def full_adagrad(grad: Grad, w: Tensor, steps: int, rate: float, eps: float) -> list[Tensor]:
    """x - rate (eps I + G)^-1/2 g with G = sum g g^T."""
    G, path = eps * torch.eye(len(w)), [w]
    for _ in range(steps):
        g = grad(w)
        G = G + torch.outer(g, g)
        U, S, V = torch.linalg.svd(G)
        w = w - rate * V.t() @ ((U.t() @ g) / S.sqrt())
        path.append(w)
    return path


def rmsprop(grad: Grad, w: Tensor, steps: int, rate: float, beta: float, eps: float, inside: bool) -> list[Tensor]:
    v, path = torch.zeros_like(w), [w]
    for _ in range(steps):
        g = grad(w)
        v = beta * v + (1 - beta) * g**2
        w = w - rate * g / ((v + eps).sqrt() if inside else v.sqrt() + eps)
        path.append(w)
    return path


def adam(grad: Grad, w: Tensor, steps: int, rate: float, betas: tuple[float, float], eps: float, correction: str):
    """``correction``: `t` divides by 1 - beta^t, `1` by 1 - beta at every t, `none` not at all."""
    m, v, path = torch.zeros_like(w), torch.zeros_like(w), [w]
    for t in range(1, steps + 1):
        g = grad(w)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        power = {"t": t, "1": 1, "none": torch.inf}[correction]
        w = w - rate * m / (1 - betas[0] ** power) / ((v / (1 - betas[1] ** power)).sqrt() + eps)
        path.append(w)
    return path


def adadelta(grad: Grad, w: Tensor, steps: int, rho: float, eps: float) -> list[Tensor]:
    """Zeiler (2012), algorithm 1."""
    v, d2, path = torch.zeros_like(w), torch.zeros_like(w), [w]
    for _ in range(steps):
        g = grad(w)
        v = rho * v + (1 - rho) * g**2
        d = -(d2 + eps).sqrt() / (v + eps).sqrt() * g
        d2 = rho * d2 + (1 - rho) * d**2
        w = w + d
        path.append(w)
    return path


def momentum(grad: Grad, w: Tensor, steps: int, rate: float, mu: float, form: str) -> list[Tensor]:
    """`velocity` v = mu v - rate g; `sum` v = g + mu v; `ema` m = mu m + (1 - mu) g; `heavy ball` w - w_before."""
    v, before, path = torch.zeros_like(w), w, [w]
    for _ in range(steps):
        g = grad(w)
        if form == "velocity":
            v = mu * v - rate * g
            new = w + v
        elif form == "sum":
            v = g + mu * v
            new = w - rate * v
        elif form == "ema":
            v = mu * v + (1 - mu) * g
            new = w - rate / (1 - mu) * v
        else:
            new = w - rate * g + mu * (w - before)
        before, w = w, new
        path.append(w)
    return path


def nesterov(grad: Grad, w: Tensor, steps: int, rate: float, mu: float) -> list[Tensor]:
    """v = mu v - rate grad(w + mu v), w + v; here the look-ahead points w + mu v, which torch keeps as parameters."""
    v, path = torch.zeros_like(w), [w]
    for _ in range(steps):
        v = mu * v - rate * grad(w + mu * v)
        w = w + v
        path.append(w + mu * v)
    return path


def compare(landscape: Landscape, steps: int = 200) -> list[dict[str, Any]]:
    """The largest difference of each pair of paths, relative to the largest entry of the path."""
    start = landscape.start

    def grad(w: Tensor) -> Tensor:
        return -methods.ascent(landscape, w)

    def ours(method: methods.Method) -> Tensor:
        return methods.path(landscape, method, steps)

    def torchs(name: str, **options: Any) -> Tensor:
        return ours(methods.torch_optim(name, **options))

    rms = {"lr": 0.01, "alpha": 0.9}
    b = (0.9, 0.999)
    given = (
        ("AdaGrad, ε = 0", adagrad(grad, start, steps, 0.1, 0.0, True), torchs("Adagrad", lr=0.1, eps=0.0), True),
        ("AdaGrad, ε = 1e-2 inside", adagrad(grad, start, steps, 0.1, 1e-2, True),
         torchs("Adagrad", lr=0.1, eps=1e-2), False),
        ("AdaGrad, ε = 1e-2 outside", adagrad(grad, start, steps, 0.1, 1e-2, False),
         torchs("Adagrad", lr=0.1, eps=1e-2), True),
        ("AdaGrad, diagonal by rlopt's gradient_history, ε inside", adagrad(grad, start, steps, 0.1, 1e-2, True),
         ours(methods.adagrad(0.1, "diagonal", 1e-2)), True),
        ("AdaGrad, full by rlopt's gradient_history, ε inside", full_adagrad(grad, start, steps, 0.1, 1e-2),
         ours(methods.adagrad(0.1, "full", 1e-2)), True),
        ("RMSprop, ε = 0", rmsprop(grad, start, steps, 0.01, 0.9, 0.0, True), torchs("RMSprop", eps=0.0, **rms), True),
        ("RMSprop, ε = 1e-2 inside", rmsprop(grad, start, steps, 0.01, 0.9, 1e-2, True),
         torchs("RMSprop", eps=1e-2, **rms), False),
        ("RMSprop, ε = 1e-2 outside", rmsprop(grad, start, steps, 0.01, 0.9, 1e-2, False),
         torchs("RMSprop", eps=1e-2, **rms), True),
        ("Adam, corrected by 1 - β^t", adam(grad, start, steps, 0.05, b, 1e-8, "t"),
         torchs("Adam", lr=0.05, betas=b, eps=1e-8), True),
        ("Adam, corrected by 1 - β", adam(grad, start, steps, 0.05, b, 1e-8, "1"),
         torchs("Adam", lr=0.05, betas=b, eps=1e-8), False),
        ("Adam, not corrected", adam(grad, start, steps, 0.05, b, 1e-8, "none"),
         torchs("Adam", lr=0.05, betas=b, eps=1e-8), False),
        ("AdaDelta (Zeiler)", adadelta(grad, start, steps, 0.9, 1e-6),
         torchs("Adadelta", lr=1.0, rho=0.9, eps=1e-6), True),
        *((f"momentum, {form}", momentum(grad, start, steps, 0.005, 0.9, form), ours(methods.momentum(0.005)), True)
          for form in ("velocity", "sum", "ema", "heavy ball")),
        ("Nesterov, look-ahead points", nesterov(grad, start, steps, 0.005, 0.9),
         ours(methods.nesterov(0.005)), True),
    )  # fmt: skip
    rows = []
    for name, written, library, agree in given:
        path = torch.stack(written)
        rows.append({
            "method": name,
            "difference": float((path - library).abs().max() / library.abs().max()),
            "definitions_agree": agree,
        })  # fmt: skip
    return rows


def alike(mu: float = 0.9, time: float = 10.0) -> dict[str, Any]:
    """Nesterov's theta_k (not his look-ahead points) against momentum's, on the canyon, up to k alpha L = time."""
    landscape = functions.canyon()
    L, differences = landscape.bounds[1], []
    rates = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005]
    for alpha in rates:
        theta, v, points = landscape.start, torch.zeros(2), [landscape.start]
        for _ in range(round(time / alpha)):
            v = mu * v + alpha / L * methods.ascent(landscape, theta + mu * v)
            theta = theta + v
            points.append(theta)
        heavy = methods.path(landscape, methods.momentum(alpha / L, mu), len(points) - 1)
        differences.append(float((torch.stack(points) - heavy).norm(dim=1).max() / landscape.start.norm()))
    return {"alpha_L": rates, "differences": differences, "momentum": mu}


def first_steps(steps: int = 3000) -> dict[str, Any]:
    """|step| / rate of Adam under each bias correction where the gradient is always 1: torch's is 1 from the start."""
    one = torch.ones(1)
    found = {}
    for correction in ("t", "1", "none"):
        path = torch.cat(adam(lambda w: one, torch.zeros(1), steps, 1.0, (0.9, 0.999), 0.0, correction))
        found[correction] = (-path.diff()).tolist()
    return found


def everywhere(steps: int = 200) -> dict[str, list[dict[str, Any]]]:
    return {landscape.name: compare(landscape, steps) for landscape in (functions.example(), functions.canyon())}
