"""Hessian metric: M = minus the Hessian in theta of the objective, so that M^-1 g is Newton's step uphill.

    M v = sum_b share_b J_b^T C_b J_b v - sum_b sum_o share_b l_bo (d^2 z_bo / dtheta^2) v

C_b is minus the Hessian in z of sample b and l_b its gradient there. The first term is the signed GGN, the second the
network's own bend, by Pearlmutter's R-operator (1994, Fast exact multiplication by the Hessian). M is indefinite in
general, and as ill-behaved as the objective away from a maximum: damp it, with a solver that can meet that.

M is the derivative of minus the objective's gradient, which the curvature gives at other thetas too, on the same
samples, for solvers that learn M from its differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.curvature import ByProduct
from rlopt.core.heads import Head
from rlopt.core.parts import GRADIENT, OBJECTIVE, PRODUCT, Bound, Metric, Objective, Requirements, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape
from rlopt.parallel.collectives import all_sum


@dataclass(frozen=True)
class Hessian(Metric):
    """M = minus the Hessian in theta of the mean objective, by its products alone; indefinite. It has no options.

    A product costs one J v, one J^T u and one pass of second derivatives. Source: Newton's method; the products,
    Pearlmutter 1994.
    """

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, GRADIENT, OBJECTIVE})
    requirements: ClassVar[Requirements] = Requirements(reads_actions=True)

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        share = samples.share[:, None]
        H = objective.hessian(head, tape.outputs, samples) * share[:, None]
        _, slopes = objective.values_and_gradient(head, tape.outputs, samples)
        u = slopes * share

        def multiply(v: Tensor) -> Tensor:
            Hv = tape.vjp(torch.einsum("bij,bj->bi", H, tape.jvp(v))) + tape.hvp(u, v)
            return -all_sum(Hv)

        def gradient(theta: Tensor) -> Tensor:
            there = tape.at(theta, samples.inputs)
            _, slopes = objective.values_and_gradient(head, there.outputs, samples)
            return -all_sum(there.vjp(slopes * share))

        return ByProduct(tape, multiply, gradient), state
