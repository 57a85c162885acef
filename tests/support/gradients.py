"""Solvers that learn from gradients alone: theta as some matrices and vectors, and a series of gradients for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rlopt.core.flat import Layout
from tests.support.oracles import randn

LAYOUT = Layout(("0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "constants"),
                ((4, 3), (4,), (2, 3, 2, 1), (2,), (5, 4), (3,)))  # fmt: skip
CURVATURE: Any = SimpleNamespace(tape=SimpleNamespace(layout=LAYOUT))
MATRICES = {"0.weight": (4, 3), "1.weight": (2, 6), "2.weight": (5, 4)}


def series(count: int, scale: float = 1.0) -> list[Tensor]:
    """Gradients (P,) that have something in common, as those of one run have."""
    common = randn(LAYOUT.size, seed=99)
    return [scale * (common + randn(LAYOUT.size, seed=i)) for i in range(count)]


def parts(g: Tensor) -> dict[str, Tensor]:
    """name -> matrix or vector, by slices of theta."""
    return {name: g[at].reshape(MATRICES.get(name, (-1,))) for name, at in LAYOUT.slices.items()}


def flat(found: dict[str, Tensor]) -> Tensor:
    return torch.cat([found[name].reshape(-1) for name in LAYOUT.names])


def walk(solver: Any, gradients: list[Tensor], damping: float) -> tuple[list[Any], Any]:
    """The solutions of one update after another, and the last state."""
    state, found = solver.init(), []
    for g in gradients:
        solve, state = solver.prepare(state, CURVATURE, damping)
        found.append(solve(g))
        state = {**state, **found[-1].state}
    return found, state


def root(S: Tensor, exponent: float) -> Tensor:
    """S^exponent of a positive definite S (N, N), by numpy's eigenvalues."""
    import numpy as np

    mu, Q = np.linalg.eigh(S.numpy())
    return torch.from_numpy(Q @ np.diag(mu**exponent) @ Q.T)
