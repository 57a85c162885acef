"""Theta as its parameters, matrices and vectors, for the solvers that are made of past gradients.

A parameter of two dimensions or more is a matrix (J, I), the first of them by all others; a bias, a scale and the
head's constants are vectors (D,). So a Conv2d filter is one matrix, and a bias does not count as a column.

Averages over updates have weights decay^age that sum to one from the first update on, which is Adam's correction of
bias (Kingma and Ba 2015, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.curvature import ByProduct, Curvature
from rlopt.core.flat import Layout
from rlopt.core.parts import Solution, State


def layout_of(curvature: Curvature) -> Layout:
    """Where the parameters lie, from a curvature of `metrics.gradient_statistics`."""
    return cast(ByProduct, curvature).tape.layout


def split(g: Tensor, layout: Layout) -> dict[str, Tensor]:
    """g (P,) -> name -> (J, I) or (D,), views."""
    return {name: part.flatten(1 if part.ndim > 1 else 0) for name, part in layout.views(g).items()}


def join(parts: Mapping[str, Tensor]) -> Tensor:
    """name -> (J, I) or (D,), in the order of theta -> (P,)."""
    return torch.cat([part.flatten() for part in parts.values()])


def mean(before: Tensor | None, now: Tensor, decay: float, updates: int) -> Tensor:
    """The running mean with ``now`` in it, which ``updates`` came before."""
    if before is None or not decay:
        return now.clone()  # it may be a part of the gradient
    return torch.lerp(before, now, (1 - decay) / (1 - decay ** (updates + 1)))


def adam(state: State, g: Tensor, decays: tuple[float, float], updates: int) -> State:
    """Adam's moments with g in them: first "m" and second "v", without bias (Kingma and Ba 2015, algorithm 1)."""
    m = mean(state.get("m"), g, decays[0], updates)
    return {"m": m, "v": mean(state.get("v"), g * g, decays[1], updates)}


def solution(x: Mapping[str, Tensor], u: Mapping[str, Tensor], damping: Tensor | float, state: State) -> Solution:
    """The solution x of M_s x = u, parameter by parameter, u being g or its running mean.

    No system is solved: the solver's matrix is given by its inverse, damping and all. So the residual is 0, and
    `Solution.damping`, which is added to M_s, is 0; the scalar damping/value is lambda.
    """
    flat = join(x)
    return Solution(flat, 0.0, 0.0, lambda: torch.dot(flat, join(u)), 0.0, {"damping/value": damping}, state)


def check_decay(name: str, decay: float) -> None:
    check(0 <= decay < 1, name, "0 or above, and below 1", decay)
