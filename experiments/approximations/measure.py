"""Errors, cost and memory of every approximation of the exact Fisher matrix F of one policy.

    x* = (F + lambda I)^-1 v,  x = (F_s + lambda I)^-1 v,  A = F + lambda I

| figure         | is                                                                                         |
|---|---|
| error          | |x - x*|_A / |x*|_A for v = g: its square is the part of the quadratic model's gain lost     |
| angle          | sine, in A's inner product, between x and x*: the same after the best step length          |
| random         | |x - x*| / |x*|, root mean square over random v                                            |
| gradients      | time of prepare and solve, in units of one gradient (forward and backward on the batch)    |
| stored, peak   | numbers that F_s is kept as, and the most alive at once on the way, in units of P          |
| frobenius      | |F_s - F| / |F| in Frobenius norm, F_s read off its inverse column by column               |
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiments._shared import policies
from rlopt.core.curvature import Curvature
from rlopt.core.parts import Solution, Solver
from rlopt.core.solvers.per_layer import LayerShape, statistics
from rlopt.inspection.memory import NewTensors

DRAWS = 16  # random vectors
RANKS = (1, 3, 10, 30, 100)
ITERATIONS = (3, 10, 30)


class Choice(NamedTuple):
    """A solver of conf/ with some of its options, and how many numbers it keeps."""

    name: str
    family: str
    solver: str
    options: dict[str, Any]
    stored: Callable[[list[LayerShape], int], int]
    matrix: bool = True  # it stands for one F_s, whatever v

    def part(self) -> Solver:
        found: Solver = policies.part("solver", self.solver, **self.options)
        return found


def _blocks(count: Callable[[LayerShape], int]) -> Callable[[list[LayerShape], int], int]:
    return lambda places, size: sum(count(at) for at in places)


def _times(factor: int) -> Callable[[list[LayerShape], int], int]:
    return lambda places, size: factor * size


_KRONECKER = _blocks(lambda at: 2 * (at.inputs**2 + at.outputs**2))  # factors and their eigenvectors
_EKFAC = _blocks(lambda at: 2 * (at.inputs**2 + at.outputs**2) + at.size)
CHOICES = (
    Choice("diagonal", "diagonal", "diagonal", {}, _times(1)),
    Choice("hutchinson, 10 draws", "diagonal", "diagonal", {"method": "hutchinson"}, _times(1)),
    Choice("curvature propagation, 10 draws", "diagonal", "diagonal", {"method": "curvature_propagation"}, _times(1)),
    Choice("Lehman, sum", "Lehman", "diagonal", {"method": "lehman_sum"}, _times(1)),
    Choice("Lehman, abs", "Lehman", "diagonal", {"method": "lehman_abs"}, _times(1)),
    Choice("block, incoming", "block", "block", {"by": "incoming"}, _blocks(lambda at: at.outputs * at.inputs**2)),
    Choice("block, outgoing", "block", "block", {"by": "outgoing"}, _blocks(lambda at: at.inputs * at.outputs**2)),
    Choice("block, layer", "block", "block", {"by": "layer"}, _blocks(lambda at: at.size**2)),
    *(Choice(f"low rank, {r}", "low rank", "low_rank", {"rank": r, "products": 2 * r}, _times(r)) for r in RANKS),
    *(Choice(f"low rank, {r}, mean", "low rank, mean", "low_rank", {"rank": r, "products": 2 * r, "remainder": "mean"},
             _times(r)) for r in RANKS),
    Choice("K-FAC", "K-FAC", "kfac", {}, _KRONECKER),
    Choice("E-KFAC", "E-KFAC", "ekfac", {}, _EKFAC),
    Choice("KFRA", "KFRA", "kfra", {}, _KRONECKER),
    *(Choice(f"L-BFGS, {m}", "L-BFGS", "lbfgs", {"memory": m}, _times(2 * m), False) for m in ITERATIONS),
    *(Choice(f"CG, {i}", "CG", "cg", {"iterations": i, "tolerance": 0.0}, _times(4), False) for i in ITERATIONS),
    Choice("exact", "exact", "dense", {}, lambda places, size: size**2),
)  # fmt: skip


class Truth:
    """F (P, P) and its eigenvalues, so that x* is at hand for every lambda."""

    def __init__(self, curvature: Curvature):
        self.F = curvature.dense()
        self.mu, self.Q = torch.linalg.eigh(self.F)
        self.mu = self.mu.clamp(min=0)

    def solve(self, v: Tensor, damping: float) -> Tensor:
        return self.Q @ (self.Q.t() @ v / (self.mu + damping))

    def inner(self, x: Tensor, y: Tensor, damping: float) -> float:
        return float(x @ (self.F @ y) + damping * (x @ y))


@torch.no_grad()
def places(curvature: Curvature) -> list[LayerShape]:
    """The layers' shapes, the head's constants among them."""
    found, _ = statistics(curvature, lambda layer, root: (root.new_zeros(1),))
    return list(found.values())


def prepared(solver: Solver, curvature: Curvature, g: Tensor, damping: float) -> Callable[[Tensor], Solution]:
    """v -> its solution. L-BFGS, which learns from the solves before, has as many of them on g as it keeps pairs."""
    state = solver.init()
    for _ in range(getattr(solver, "memory", 0)):
        apply, new = solver.prepare(state, curvature, damping)
        state = {**new, **apply(g).state}
    return solver.prepare(state, curvature, damping)[0]


@torch.no_grad()
def errors(choice: Choice, curvature: Curvature, truth: Truth, g: Tensor, damping: float) -> dict[str, float]:
    apply = prepared(choice.part(), curvature, g, damping)
    solution = apply(g)
    x, best = solution.x, truth.solve(g, damping)
    size, length = truth.inner(best, best, damping), truth.inner(x, x, damping)
    cosine = truth.inner(x, best, damping) / (size * length) ** 0.5
    generator = torch.Generator().manual_seed(0)
    squares = []
    for v in torch.randn(DRAWS, len(g), generator=generator, dtype=g.dtype):
        wanted = truth.solve(v, damping)
        squares.append(float(((apply(v).x - wanted).norm() / wanted.norm()) ** 2))
    return {
        "error": (truth.inner(x - best, x - best, damping) / size) ** 0.5,
        "angle": max(1 - cosine**2, 0.0) ** 0.5,
        "random": (sum(squares) / DRAWS) ** 0.5,
        "damping_used": float(solution.damping),
    }


@torch.no_grad()
def cost(choice: Choice, curvature: Curvature, g: Tensor, damping: float, repeats: int) -> dict[str, float]:
    """Milliseconds to prepare and solve, and the peak of new tensors, in numbers over P."""
    solver = choice.part()

    def once() -> Tensor:
        return prepared(solver, curvature, g, damping)(g).x

    with NewTensors() as memory:
        once()
    return {"milliseconds": timed(once, repeats), "peak": memory.peak / g.element_size() / len(g)}


def timed(once: Callable[[], Any], repeats: int) -> float:
    """Milliseconds, the least of ``repeats``: what others do on the machine only adds."""
    found = []
    while len(found) < repeats and sum(found) < 2000:
        began = time.perf_counter()
        once()
        found.append(1000 * (time.perf_counter() - began))
    return min(found)


@torch.no_grad()
def matrix(choice: Choice, curvature: Curvature, g: Tensor, damping: float) -> Tensor:
    """F_s (P, P): the inverse of what the solver does to every unit vector, less lambda I."""
    apply = prepared(choice.part(), curvature, g, damping)
    apply(g)  # Lanczos starts from it
    columns = torch.stack([apply(e).x for e in torch.eye(len(g), dtype=g.dtype)], 1)
    found = torch.linalg.inv((columns + columns.t()) / 2)
    return found - damping * torch.eye(len(g), dtype=g.dtype)
