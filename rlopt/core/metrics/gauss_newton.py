"""Gauss-Newton metric: C = I, so M = sum_b share_b J_b^T J_b (Martens 2020, New insights on the natural gradient, 8).

1/2 v^T M v is half the mean squared change of the outputs z, in their own units. For a value
head it is the head's variance times the Fisher matrix: the Gauss-Newton matrix of squared error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.curvature import PullBack
from rlopt.core.heads import Head
from rlopt.core.parts import BATCH, PRODUCT, ROOT, SEMIDEFINITE, Bound, Metric, Objective, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class GaussNewton(Metric):
    """M = mean of J^T J over samples: 1/2 v^T M v is half the mean squared change of the outputs. It has no options.

    Its units are those of the outputs, squared: logits, means in units of the action, values in units of the return.
    Source: Martens 2020, New insights and perspectives on the natural gradient method, section 8.
    """

    supplies: ClassVar[frozenset[str]] = frozenset({BATCH, PRODUCT, ROOT, SEMIDEFINITE})

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        z = tape.outputs
        return PullBack(tape, samples.share, torch.clone, lambda at=slice(None): _unit_vectors(z[at])), state


def _unit_vectors(z: Tensor) -> Tensor:
    """u_k = e_k for every sample, K = O."""
    count, size = z.shape
    return torch.eye(size, dtype=z.dtype, device=z.device)[:, None].expand(-1, count, -1)
