"""KFRA: Kronecker factors by recursion through the layers of a chain (Botev, Ritter and Barber 2017, eqs. 11 and 20).

    G_last = mean_b sum_k d d^T of the last layer, the mean C of the output space where no activation follows
    G_{l-1} = B_{l-1} o (W_l^T G_l W_l),   B = mean_b f' f'^T,   o entry by entry;   A = mean_b a a^T as in K-FAC

The expectation of a product is taken as the product of expectations at every layer, so only one matrix (J, J) goes
back, whatever the number K of factors of C. Exact where f' and C are the same at every sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.parts import ROOT, Solution, State
from rlopt.core.solvers.kfac import check_options, solve_with
from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.solvers.per_layer import rooted
from rlopt.core.tapes.tape import Layer


@dataclass(frozen=True)
class KFRA:
    damping: Literal["exact", "factored"]  # see `kfac`
    decay: float  # of A and G, 0 or above and below 1; 0 takes this batch alone
    refresh: int  # calls from one eigendecomposition to the next

    needs: ClassVar[frozenset[str]] = frozenset({ROOT})
    needs_chain: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_options(self.damping, self.decay, self.refresh)

    def init(self) -> State:
        return kronecker.init()

    def prepare(
        self, state: State, curvature: Curvature, damping: Tensor | float
    ) -> tuple[Callable[[Tensor], Solution], State]:
        if not rooted(curvature).tape.chain:
            raise ValueError(
                "kfra reads activation derivatives, which exist for chains of Linear layers with tanh, ReLU, ELU or "
                "sigmoid; choose solver=kfac or solver=ekfac, which take any module of Linear and Conv2d layers"
            )
        weights: dict[str, Tensor | None] = {}

        def measured(layer: Layer, root: Tensor) -> tuple[Tensor, ...]:
            weights[layer.weight_name] = layer.weight
            A, G = kronecker.factors(layer, root)
            if layer.derivative is None:
                return A, G
            slopes = layer.derivative * root[:, None]
            return A, G, slopes.t() @ slopes

        places, values = kronecker.statistics(curvature, measured)
        state = kronecker.average(state, places, recursion(values, list(weights.values())), self.decay)
        state = kronecker.decompose(state, self.refresh)
        return solve_with(places, state["basis"], damping, self.damping), state


def recursion(values: list[tuple[Tensor, ...]], weights: list[Tensor | None]) -> list[tuple[Tensor, ...]]:
    """(A, G) of every layer, from its (A, G of the signals, B if an activation follows); constants stay as they are."""
    found: list[tuple[Tensor, ...]] = []
    G = W = None  # of the layer after
    for (A, own, *slopes), weight in zip(reversed(values), reversed(weights), strict=True):
        if weight is None:
            found.append((A, own))
            continue
        G = own if G is None or W is None else W.t() @ G @ W * (slopes[0] if slopes else 1)
        W = weight
        found.append((A, G))
    return found[::-1]
