"""Gradient statistics metric: M is what the solver makes of the gradients that it is given, update after update.

    M_t = f(g_1, ..., g_t),   f that of Shampoo, SOAP, Muon or PSGD: see `solvers.shampoo`, `soap`, `muon` and `kron`

Like `gradient_history` it knows nothing of the model, and forgets the theta where a gradient was taken. There M is held
as it is, full or diagonal, and its power -1/2 is exact; here it has a structure for every matrix of theta, and the
solver that has the structure keeps the statistics. So nothing is held here. A tool that asks for a product gets that of
g g^T with the gradient of now, the newest term of such statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.curvature import ByProduct
from rlopt.core.heads import Head
from rlopt.core.parts import SEMIDEFINITE, STATISTICS, Bound, Metric, Objective, Requirements, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_sum


@dataclass(frozen=True)
class GradientStatistics(Metric):
    """M = what the solver keeps of past gradients, in units that the solver states. It has no options.

    Source: Gupta, Koren and Singer 2018, for matrices of gradients; see the solvers for each of them.
    """

    supplies: ClassVar[frozenset[str]] = frozenset({SEMIDEFINITE, STATISTICS})
    requirements: ClassVar[Requirements] = Requirements(reads_actions=True)

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        @cache
        def gradient() -> Tensor:
            given = samples.tensors
            _, slopes = objective.values_and_gradient(head, tape.outputs, given)
            return all_sum(tape.vjp(slopes * given.share[:, None]))

        def multiply(v: Tensor) -> Tensor:
            return gradient() * torch.dot(gradient(), v)

        return ByProduct(tape, multiply), state
