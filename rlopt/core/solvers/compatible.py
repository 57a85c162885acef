"""Compatible solver: x = w, the weights of the critic's advantage A(s, a) = w . score(s, a) (Kakade 2001, theorem 1).

Where the critic is compatible g = F w, so that w is the natural gradient and nothing is left to solve: see
`compatible.critic`, whose w is put into this solver's state before every update. Damping is not used; the critic has
a ridge of its own. The residual reported is |g - M w| / |g|: rounding where the metric is the critic's own, and how far
two estimates of the Fisher matrix differ where it is another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.parts import COMPATIBLE, PRODUCT, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Incompatible, Remedy


@dataclass(frozen=True)
class Compatible(Solver):
    """x = w, the weights (P,) of a compatible critic's advantage, whatever g is. It has no options.

    Source: Sutton et al. 2000, theorem 2; Kakade 2001, theorem 1. Raises Incompatible where no critic has given it w.
    """

    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT, COMPATIBLE})
    requirements: ClassVar[Requirements] = Requirements(reads_damping=False, linear=False)

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if "w" not in state:
            raise Incompatible("no compatible critic has given the policy a direction", Remedy.COMPATIBLE_CRITIC)
        w = state["w"]
        return lambda g: Solution.measured(g, w, curvature.product(w), 0.0), state


def with_direction(state: State, w: Tensor) -> State:
    """The solver's state with the critic's w (P,)."""
    return {**state, "w": w}
