"""Gradient history metric: M = sum_t g_t g_t^T over this update and all before it (Duchi et al. 2011, AdaGrad).

    decay: null   M = sum_t g_t g_t^T
    decay: beta   M = (1 - beta) / (1 - beta^T) sum_t beta^(T - t) g_t g_t^T, an average without bias from the first on

With the power -1/2 of M for its inverse, x = M^-1/2 g is AdaGrad: full (P, P), or diagonal, sum_t g_t^2 alone. It
assumes nothing of the model: a scale learned from past gradients, which forgets the theta where they were taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.curvature import Given
from rlopt.core.heads import Head
from rlopt.core.parts import HISTORY, PRODUCT, SEMIDEFINITE, Bound, History, Objective, Requirements, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_sum


@dataclass(frozen=True)
class GradientHistory(History):
    """M = sum or running mean of g g^T over this update and all before it, in units of the objective squared.

    The state holds the sum (P, P) or (P,) and its weight.

    Options:
        decay: beta per update, 0 or above and below 1; null takes the plain sum.
        form: full holds g g^T (P, P), diagonal its diagonal g^2 (P,) alone.

    Source: Duchi et al. 2011, AdaGrad. Raises ValueError where an option is out of its range.
    """

    decay: float | None
    form: Literal["full", "diagonal"]

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, SEMIDEFINITE, HISTORY})

    @property
    def requirements(self) -> Requirements:
        return Requirements(reads_actions=True, holds_matrix=self.form == "full")

    def __post_init__(self) -> None:
        if self.decay is not None:
            check(0 <= self.decay < 1, "decay", "null, or 0 or above and below 1", self.decay)
        check(self.form in ("full", "diagonal"), "form", "full or diagonal", self.form)

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        _, slopes = objective.values_and_gradient(head, tape.outputs, samples)
        return self.add(state, all_sum(tape.vjp(slopes * samples.share[:, None])))

    def add(self, state: State, g: Tensor) -> Bound:
        """M with g (P,) as the newest gradient; see `parts.History`."""
        now = torch.outer(g, g) if self.form == "full" else g * g
        keep, add = (1.0, 1.0) if self.decay is None else (self.decay, 1 - self.decay)
        if state:
            total, weight = keep * state["total"] + add * now, keep * state["weight"] + add
        else:
            total, weight = add * now, add
        entries = total if self.decay is None else total / weight
        return Given(entries), {"total": total, "weight": weight}
