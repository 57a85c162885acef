"""L-BFGS solver: x = H g with H ~ (M + lambda I)^-1 built from pairs (s, y = (M + lambda I) s) (Nocedal 1980).

    H_0 = gamma I,   gamma = s^T y / y^T y of the newest pair
    H <- (I - rho s y^T) H (I - rho y s^T) + rho s s^T,   rho = 1 / s^T y,   from the oldest pair to the newest

applied by the two-loop recursion (Nocedal and Wright 2006, algorithm 7.4). The first update has no pair: x = g.

| pairs     | s                                             | y - lambda s                                          |
|---|---|---|
| products  | the last update's direction, of length one    | M s, one product                                      |
| gradients | the step that was taken, theta - theta_before | g(theta_before) - g(theta), on the samples of now     |

The product is M at the new theta. The difference is M's mean along the step, where M is minus the Hessian of the
objective with gradient g; both gradients are of the same samples, so that y is no noise, at the price of two more
gradients (Schraudolph, Yu and Guenter 2007, online L-BFGS; there the samples are those of the last update). So H learns
M in the directions that are used.

A pair with s^T y <= curvature |s| |y| is left out, so that H is positive definite for any M (Li and Fukushima 2001).
lambda s in y keeps many pairs along which M is a little negative. The solver's own matrix is M_s = H^-1 - lambda I, for
which x is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import ByProduct, Curvature
from rlopt.core.parts import GRADIENT, PRODUCT, Requirements, Solution, Solve, Solver, State


@dataclass(frozen=True)
class LBFGS(Solver):
    """x = H g with H an estimate of (M + lambda I)^-1 that learns one pair an update.

    The state holds the last direction (P,), or the last theta, and the pairs (N, P).

    Options:
        memory: pairs kept; 1 or above.
        curvature: the least cosine s^T y / (|s| |y|) of a pair that counts; above 0 and below 1.
        pairs: products takes y from a product with M; gradients from the difference of two gradients.

    Source: Nocedal 1980; Nocedal and Wright 2006, algorithm 7.4. Raises ValueError where an option is out of its range.
    x is NaN where a product or a difference is not finite.
    """

    memory: int
    curvature: float
    pairs: Literal["products", "gradients"]

    def __post_init__(self) -> None:
        at_least_one("memory", self.memory)
        check(0 < self.curvature < 1, "curvature", "above 0 and below 1", self.curvature)
        check(self.pairs in ("products", "gradients"), "pairs", "products or gradients", self.pairs)

    @property
    def requirements(self) -> Requirements:
        return Requirements(linear=False, instead={} if self.pairs == "products" else {"pairs": "products"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({PRODUCT if self.pairs == "products" else GRADIENT})

    def init(self) -> State:
        return {}  # then "last" (P,), a direction or theta to be paired next, and "s" and "Ms" (N, P), oldest first

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        new = self._paired(state, curvature)

        def solve(g: Tensor) -> Solution:
            x, used = self._apply(new, damping, g)
            return Solution(
                x=x,
                iterations=0.0,
                error=0.0,  # H is applied, no system is solved
                form=torch.dot(x, g) - damping * torch.dot(x, x),
                damping=damping,
                scalars={"solver/pairs": used},
                state={"last": x} if self.pairs == "products" else {},
            )

        return solve, new

    def _paired(self, state: State, curvature: Curvature) -> State:
        """The state with the newest pair, if there is one to be made."""
        if self.pairs == "gradients":
            known = cast(ByProduct, curvature)
            now = known.tape.theta()
            if "last" not in state:
                return {**state, "last": now}
            assert known.gradient is not None
            s, Ms = now - state["last"], known.gradient(now) - known.gradient(state["last"])
            state = {**state, "last": now}
        elif "last" in state:
            last = state["last"]
            s = last / last.norm().clamp(min=torch.finfo(last.dtype).tiny)
            Ms = curvature.product(s)
        else:
            return state
        pair = {"s": s[None], "Ms": Ms[None]}
        if "s" in state:
            pair = {name: torch.cat([state[name], rows])[-self.memory :] for name, rows in pair.items()}
        return {**state, **pair}

    def _apply(self, state: State, damping: Tensor | float, g: Tensor) -> tuple[Tensor, Tensor]:
        """H g, and how many pairs H is made of. Pairs passed over have rho = 0, which leaves the recursion as it is."""
        if "s" not in state:
            return g, g.new_zeros(())
        s = state["s"]
        y = state["Ms"] + damping * s
        sy, yy = (s * y).sum(1), (y * y).sum(1)
        good = sy > self.curvature * s.norm(dim=1) * yy.sqrt()
        rho = torch.where(good, 1 / sy, 0.0)
        gamma = torch.ones_like(sy[0])
        for i in range(len(s)):
            gamma = torch.where(good[i], sy[i] / yy[i], gamma)

        q, alphas = g, []
        for i in reversed(range(len(s))):
            alphas.append(rho[i] * torch.dot(s[i], q))
            q = q - alphas[-1] * y[i]
        x = gamma * q
        for i in range(len(s)):
            x = x + (alphas.pop() - rho[i] * torch.dot(y[i], x)) * s[i]
        sound = y.sum().isfinite()  # a product that is no number must not pass for one without curvature
        return torch.where(sound, x, torch.nan), good.sum()
