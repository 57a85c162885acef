"""Gradient covariance metric: C_b = l_b l_b^T, l_b = dL_b / dz_b of the objective's sample b (Roux et al. 2008, TONGA).

    M = sum_b share_b g_b g_b^T            g_b = J_b^T l_b the gradient of sample b
    M = sum_b share_b g_b g_b^T - g g^T    centred; g = sum_b share_b g_b

M^-1 g trusts directions in which samples agree. Centred it is the covariance proper, and C couples the samples:

    (C t)_b = l_b (l_b . t_b - sum_c share_c l_c . t_c)

so that no root in output space is at hand. Samples count as independent; those of one episode are not quite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.curvature import PullBack, factored
from rlopt.core.heads import Head
from rlopt.core.parts import BATCH, PRODUCT, ROOT, SEMIDEFINITE, Bound, Metric, Objective, Requirements, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_sum


@dataclass(frozen=True)
class GradientCovariance(Metric):
    """M = second moments of the samples' own gradients of the objective, in its units squared.

    Options:
        centred: true subtracts g g^T, which leaves the covariance, for solvers that need products alone; false leaves
            the second moments about 0.

    Source: Roux et al. 2008, TONGA.
    """

    centred: bool

    requirements: ClassVar[Requirements] = Requirements(reads_actions=True)

    @property
    def supplies(self) -> frozenset[str]:
        return frozenset({PRODUCT, SEMIDEFINITE} if self.centred else {BATCH, PRODUCT, ROOT, SEMIDEFINITE})

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        _, slopes = objective.values_and_gradient(head, tape.outputs, samples)
        if not self.centred:
            return factored(tape, samples.share, slopes[None]), state
        share = samples.share

        def apply(t: Tensor) -> Tensor:
            along = (slopes * t).sum(1)
            return slopes * (along - all_sum(torch.dot(share, along)))[:, None]

        return PullBack(tape, share, apply), state
