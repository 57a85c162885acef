"""Identity metric: M = I, the plain gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.curvature import Euclidean
from rlopt.core.heads import Head
from rlopt.core.parts import EUCLIDEAN, PRODUCT, SEMIDEFINITE, Bound, Metric, Objective, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class Identity(Metric):
    """M = I: distance is the Euclidean length of a change of theta, in theta's own units. It has no options."""

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, EUCLIDEAN, SEMIDEFINITE})

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        return Euclidean(tape), state
