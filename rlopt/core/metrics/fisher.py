"""Fisher metric: C = E_{a ~ p(. | z)}[s s^T] in output space, s = d log p(a | z) / dz (Amari 1998; Kakade 2001, eq. 3).

The expectation over the model's own actions is taken in closed form by the head. 1/2 v^T M v is the mean KL divergence
between the policies at theta and theta + v, in nats, to second order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from rlopt.core.curvature import Curvature, PullBack
from rlopt.core.heads import Head
from rlopt.core.objectives.objective import Objective
from rlopt.core.parts import PRODUCT, ROOT, SEMIDEFINITE, State
from rlopt.core.samples import Samples
from rlopt.core.tape import Tape


@dataclass(frozen=True)
class Fisher:
    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, ROOT, SEMIDEFINITE})

    def init(self) -> State:
        return {}

    def bind(
        self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective
    ) -> tuple[Curvature, State]:
        z = tape.outputs
        root = partial(head.fisher_root, z)
        return PullBack(tape, samples.share, head.fisher_product(z), root), state
