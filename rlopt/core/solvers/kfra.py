"""KFRA: Kronecker factors by recursion through the layers of a chain (Botev, Ritter and Barber 2017, eqs. 11 and 20).

    G_last = mean_b sum_k d d^T of the last layer, the mean C of the output space where no activation follows
    G_{l-1} = B_{l-1} o (W_l^T G_l W_l),   B = mean_b f' f'^T,   o entry by entry;   A = mean_b a a^T as in K-FAC

The expectation of a product is taken as the product of expectations at every layer, so only one matrix (J, J) goes
back, whatever the number K of factors of C. Exact where f' and C are the same at every sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.parts import BATCH, ROOT, Requirements, Solve, Solver, State
from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.solvers.kfac import check_options, solve_with
from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.solvers.per_layer import rooted
from rlopt.core.tapes.tape import Layer


@dataclass(frozen=True)
class KFRA(Solver):
    """x with (M_s + lambda I) x = g, M_s a Kronecker product A (x) G for every layer, G found from the layer after it.

    Options:
        damping: exact adds lambda to A (x) G; factored shares it out between A and G, as in `kfac`.
        decay: of the running means of A and G; 0 or above and below 1. 0 takes this batch alone.
        refresh: updates from one eigendecomposition to the next; 1 or above.

    It serves chains of Linear layers and activations, without layer normalisation. Source: Botev, Ritter and Barber
    2017. Raises ValueError where an option is out of its range, Incompatible for another network, NumericalFailure
    where statistics are not finite or no lambda of eight suffices.
    """

    damping: Literal["exact", "factored"]
    decay: float
    refresh: int

    needs: ClassVar[frozenset[str]] = frozenset({BATCH, ROOT})
    requirements: ClassVar[Requirements] = Requirements(needs_chain=True, reads_samples=True)

    def __post_init__(self) -> None:
        check_options(self.damping, self.decay, self.refresh)

    def init(self) -> State:
        return kronecker.init()

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if not rooted(curvature).tape.chain:
            raise Incompatible(
                "the recursion reads activation derivatives, which only a chain of Linear layers and activations has, "
                "without layer normalisation",
                Remedy.OTHER_SOLVER,
            )
        weights: dict[str, Tensor | None] = {}

        def measured(layer: Layer, root: Tensor) -> tuple[Tensor, ...]:
            weights[layer.weight_name] = layer.weight
            A, G = kronecker.factors(layer, root)
            if layer.derivative is None:
                return A, G
            slopes = layer.derivative * root[:, None]
            return A, G, slopes.t() @ slopes

        shapes, values = kronecker.statistics(curvature, measured)
        state = kronecker.average(state, shapes, recursion(values, list(weights.values())), self.decay)
        state = kronecker.decompose(state, self.refresh)
        return solve_with(shapes, state["basis"], damping, self.damping), state


def recursion(values: list[tuple[Tensor, ...]], weights: list[Tensor | None]) -> list[tuple[Tensor, ...]]:
    """(A, G) of every layer, from its (A, G of the signals, B if an activation follows); constants stay as they are."""
    found: list[tuple[Tensor, ...]] = []
    G = W = None  # of the layer after
    for (A, direct, *slopes), weight in zip(reversed(values), reversed(weights), strict=True):
        if weight is None:
            found.append((A, direct))
            continue
        G = direct if G is None or W is None else W.t() @ G @ W * (slopes[0] if slopes else 1)
        W = weight
        found.append((A, G))
    return found[::-1]
