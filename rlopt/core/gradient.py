"""The mean objective and its gradient in theta, pulled back through a tape; in numpy where all parts take arrays."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rlopt.core.heads import Head
from rlopt.core.problem import Objective
from rlopt.core.samples import Samples
from rlopt.core.tapes.array import ArrayTape
from rlopt.core.tapes.tape import Tape


def value_and_gradient(tape: Tape, head: Head, objective: Objective, samples: Samples) -> tuple[Tensor | float, Tensor]:
    """The objective's weighted sum over the samples of this rank and its gradient (P,), a new tensor."""
    if not isinstance(tape, ArrayTape):
        values, dz = objective.values_and_gradient(head, tape.outputs, samples)
        return torch.dot(samples.share, values), tape.vjp(dz * samples.share[:, None])
    share: Any = samples.share
    values, dz = objective.values_and_gradient(head, cast(Tensor, tape.z), samples)
    dz *= share[:, None]
    return float(np.dot(share, values)), torch.from_numpy(tape.array_vjp(cast(Any, dz)))
