"""Generalised Gauss-Newton metric: C_b = minus the Hessian in z of the objective's sample b (Schraudolph 2002).

M = sum_b share_b J_b^T C_b J_b is minus the objective's Hessian without the second derivatives of the outputs, and all
of it where the network is linear in theta. With the log-likelihood for objective it is the Fisher matrix wherever C_b
does not depend on the action: categorical logits, a Gaussian's mean at fixed sigma, a value. C_b is indefinite for a
Gaussian's (mean, scale), for negative advantages and for importance weights; hence a choice:

    clipped   every C_b is replaced by its positive semidefinite part, sum_k max(lambda_k, 0) q_k q_k^T; any solver
    signed    C_b as it is: only for solvers that can meet negative curvature
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure, check
from rlopt.core.curvature import PullBack, factored
from rlopt.core.heads import Head
from rlopt.core.parts import (
    BATCH,
    OBJECTIVE,
    PRODUCT,
    ROOT,
    SEMIDEFINITE,
    Bound,
    Metric,
    Objective,
    Requirements,
    State,
)
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class GGN(Metric):
    """M = mean of J^T C J over samples, C minus the Hessian in the outputs of the objective: units of the objective.

    Options:
        curvature: clipped takes the positive semidefinite part of every C; signed takes C as it is, for solvers that
            can meet negative curvature.

    Source: Schraudolph 2002; Martens 2020. Raises ValueError for another word, NumericalFailure where C is not finite.
    """

    curvature: Literal["clipped", "signed"]

    requirements: ClassVar[Requirements] = Requirements(reads_actions=True)

    def __post_init__(self) -> None:
        check(self.curvature in ("clipped", "signed"), "curvature", "clipped or signed", self.curvature)

    @property
    def supplies(self) -> frozenset[str]:
        both = {PRODUCT, OBJECTIVE}
        return frozenset(both if self.curvature == "signed" else both | {BATCH, ROOT, SEMIDEFINITE})

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        C = -objective.hessian(head, tape.outputs, samples)
        if self.curvature == "clipped":
            return factored(tape, samples.share, positive_root(C)), state
        return PullBack(tape, samples.share, lambda t: torch.einsum("bij,bj->bi", C, t)), state


def positive_root(C: Tensor) -> Tensor:
    """U (O, B, O) with sum_k u_k u_k^T the positive semidefinite part of each C_b (O, O)."""
    if not C.sum().isfinite():
        raise NumericalFailure("the objective's Hessian in output space holds a number that is not finite")
    try:
        eigenvalues, vectors = torch.linalg.eigh(C)
    except RuntimeError as error:  # torch.linalg.LinAlgError is one
        raise NumericalFailure("the eigenvalues of the objective's Hessian in output space did not converge") from error
    root: Tensor = vectors * eigenvalues.clamp(min=0).sqrt()[:, None, :]
    return root.movedim(2, 0)
