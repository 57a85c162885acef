"""Identity metric: M = I, the plain gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.curvature import Curvature, Euclidean
from rlopt.core.heads import Head
from rlopt.core.objectives.objective import Objective
from rlopt.core.parts import EUCLIDEAN, PRODUCT, SEMIDEFINITE, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class Identity:
    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, EUCLIDEAN, SEMIDEFINITE})

    def init(self) -> State:
        return {}

    def bind(
        self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective
    ) -> tuple[Curvature, State]:
        return Euclidean(tape), state
