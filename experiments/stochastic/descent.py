"""Stochastic gradient descent and what is done against its noise, many seeds at once (S rows).

    SGD     theta <- theta - a_k P g_i(theta)              a_k a schedule; P = I, or H^-1 for a second-order method
    SAG     theta <- theta - a / m sum_j y_j,   y_i = g_i(theta) at the i just drawn (Le Roux, Schmidt, Bach 2012)
    SVRG    theta <- theta - a (g_i(theta) - g_i(snap) + full(snap)),   snap renewed every m steps (Johnson, Zhang 2013)

The averages are rlopt's own (rlopt/core/averaging.py), which serve evaluation in training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from experiments.stochastic.problems import Problem
from rlopt.core.averaging import Averaging

Schedule = Callable[[int], float]
UNIFORM, EMA = Averaging("uniform", 0.0), Averaging("ema", 0.99)
_CHUNK = 500  # steps whose terms are drawn at a time


def inverse(a: float, decay: float) -> Schedule:
    """a / (1 + decay k), as scheduler=inverse: the sum diverges, that of squares does not."""
    return lambda k: a / (1 + decay * k)


def power(a: float, decay: float, exponent: float) -> Schedule:
    return lambda k: a / (1 + decay * k) ** exponent


def constant(a: float) -> Schedule:
    return lambda k: a


def drawn(problem: Problem, steps: int, seeds: int, batch: int, seed: int) -> Iterator[Tensor]:
    """(S, batch) terms, one after another."""
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, steps, _CHUNK):
        count = min(_CHUNK, steps - first)
        yield from torch.randint(len(problem.a), (count, seeds, batch), generator=generator)


def sgd(
    problem: Problem,
    start: Tensor,
    schedule: Schedule,
    at: list[int],
    seeds: int,
    averages: dict[str, Averaging] | None = None,
    P: Tensor | None = None,
    momentum: float = 0.0,
    seed: int = 0,
) -> dict[str, Tensor]:
    """theta (len(at), S, d) after the numbers of steps ``at``, as `last` and under the name of every average."""
    averages = averages or {}
    theta, v = start.expand(seeds, -1).clone(), torch.zeros(seeds, len(start))
    states = {name: average.init(theta) for name, average in averages.items()}
    found: dict[str, list[Tensor]] = {name: [] for name in ("last", *averages)}
    wanted = set(at)
    for k, index in enumerate(drawn(problem, max(at), seeds, 1, seed)):
        g = problem.gradient(theta, index)
        if P is not None:
            g = g @ P
        v = momentum * v + g if momentum else g
        theta = theta - schedule(k) * v
        states = {name: average.update(states[name], theta) for name, average in averages.items()}
        if k + 1 in wanted:
            found["last"].append(theta)
            for name in averages:
                found[name].append(states[name]["theta"])
    return {name: torch.stack(thetas) for name, thetas in found.items()}


def sag(problem: Problem, start: Tensor, rate: float, passes: int, seeds: int, seed: int = 0) -> np.ndarray:
    """(passes + 1, S) excess after every m gradients of one term. The table starts at the start."""
    m = len(problem.a)
    theta, rows = start.expand(seeds, -1).clone(), torch.arange(seeds)
    table = problem.slopes(theta @ problem.a.t(), problem.y)  # (S, m)
    total = table @ problem.a  # (S, d)
    found = [problem.excess(theta)]
    for k, index in enumerate(drawn(problem, passes * m, seeds, 1, seed)):
        i = index[:, 0]
        slope = problem.slopes((problem.a[i] * theta).sum(1), problem.y[i])
        total = total + (slope - table[rows, i])[:, None] * problem.a[i]
        table[rows, i] = slope
        theta = theta - rate * (total / m + problem.ridge * theta)
        if (k + 1) % m == 0:
            found.append(problem.excess(theta))
    return torch.stack(found).numpy()


def svrg(problem: Problem, start: Tensor, rate: float, passes: int, seeds: int, seed: int = 0) -> np.ndarray:
    """(rounds + 1, S) excess; a round of m steps costs 3 m gradients: passes / 3 rounds."""
    m = len(problem.a)
    theta = start.expand(seeds, -1).clone()
    found = [problem.excess(theta)]
    for k, index in enumerate(drawn(problem, passes // 3 * m, seeds, 1, seed)):
        if k % m == 0:
            snap, mean = theta, problem.full(theta)
        theta = theta - rate * (problem.gradient(theta, index) - problem.gradient(snap, index) + mean)
        if (k + 1) % m == 0:
            found.append(problem.excess(theta))
    return torch.stack(found).numpy()


def interval(values: np.ndarray | Tensor) -> tuple[float, float, float]:
    """Mean over seeds and its 95% interval, normal: there are hundreds."""
    values = np.asarray(values)
    half = 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def spaced(last: int, count: int = 24) -> list[int]:
    """Whole numbers from 1 to last, evenly in log."""
    return sorted({int(round(k)) for k in np.logspace(0, np.log10(last), count)})
