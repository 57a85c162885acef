"""Identity solver: x = g, for the identity metric. Damping only shrinks the direction there, and is not used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.arrays import squared_length
from rlopt.core.curvature import Curvature
from rlopt.core.parts import EUCLIDEAN, Requirements, Solution, Solve, Solver, State


@dataclass(frozen=True)
class Identity(Solver):
    """x = g: with the identity metric the gradient is the direction. It has no options, and reads no damping."""

    needs: ClassVar[frozenset[str]] = frozenset({EUCLIDEAN})
    requirements: ClassVar[Requirements] = Requirements(reads_damping=False)

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        return _solve, state


def _solve(g: Tensor) -> Solution:
    form = partial(torch.dot, g, g)
    return Solution(x=g, iterations=None, error=0.0, form=form, damping=0.0, squared=squared_length(g))
