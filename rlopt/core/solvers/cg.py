"""Conjugate gradient for (M + lambda I) x = g, from products alone (Hestenes and Stiefel 1952).

Within the loop, in the usual letters: A = M + lambda I, r = g - A x the residual, z = N r with N the preconditioner
(another solver, prepared once; z = r without one), p the search direction (Nocedal and Wright 2006, algorithm 5.3).

Negative or zero curvature p^T A p <= 0 ends the loop with the last good iterate (the first p if there is none, which is
g itself without a preconditioner), and is reported. All decisions are masks on the device; only on the CPU, where
reading them is free, does the loop end early, on all ranks at once.

From a cold start every iterate lies in the gradient's half-plane, g^T x > 0, when N is positive definite. A warm start,
from the last solution times ``decay`` (Martens 2010), saves iterations when M and g change little, and has no such
guarantee unless it converges; after negative curvature at once it returns where it started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, between, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import PRODUCT, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import with_inner
from rlopt.parallel.collectives import all_ranks

Preconditioner = Callable[[Tensor], Tensor]  # r (P,) -> N r (P,)


@dataclass(frozen=True)
class CG(Solver):
    """x with (M + lambda I) x = g, by products M v alone; memory for a few vectors (P,).

    Options:
        iterations: products with M, at most; 1 or above.
        tolerance: it stops at |g - (M + lambda I) x| <= tolerance |g|; between 0 and 1. 0 goes on to rounding.
        preconditioner: null, or another solver, whose x is linear in g; its state is nested in this one's.
        start: cold starts from 0, warm from the last solution times decay.
        decay: between 0 and 1; it has no effect with a cold start.

    Source: Hestenes and Stiefel 1952; Nocedal and Wright 2006, algorithm 5.3; Martens 2010 for the warm start. Raises
    ValueError where an option is out of its range. Where a product is not finite x is NaN.
    """

    iterations: int
    tolerance: float
    preconditioner: Solver | None
    start: Literal["cold", "warm"]
    decay: float

    def __post_init__(self) -> None:
        at_least_one("iterations", self.iterations)
        between("tolerance", self.tolerance, 0, 1)
        inner = self.preconditioner
        wanted = "null or a solver that is linear in g and learns nothing from it"
        check(inner is None or inner.requirements.linear, "preconditioner", wanted, type(inner).__name__.lower())
        check(self.start in ("cold", "warm"), "start", "cold or warm", self.start)
        between("decay", self.decay, 0, 1)

    @property
    def requirements(self) -> Requirements:
        asked = self.preconditioner.requirements if self.preconditioner else Requirements()
        unread = {"decay": "start"} if self.start == "cold" else {}
        return with_inner(asked, "preconditioner", reads_damping=True, linear=False, unread=unread)

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({PRODUCT}) | (self.preconditioner.needs if self.preconditioner else frozenset())

    def init(self) -> State:
        return {"preconditioner": self.preconditioner.init()} if self.preconditioner else {}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        x0 = self.decay * state["x"] if "x" in state else None
        if self.preconditioner is None:
            return partial(self._solve, curvature, damping, lambda r: r, x0), state
        inner, nested = self.preconditioner.prepare(state["preconditioner"], curvature, damping)
        solve = partial(self._solve, curvature, damping, lambda r: inner(r).x, x0)
        return solve, {**state, "preconditioner": nested}

    def _solve(
        self, curvature: Curvature, damping: Tensor | float, precondition: Preconditioner, x0: Tensor | None, g: Tensor
    ) -> Solution:
        gg = torch.dot(g, g)
        x, r, active = torch.zeros_like(g), g.clone(), gg > 0
        # below about 10 roundings r is noise, and further steps would follow it
        target = max(self.tolerance, 10 * torch.finfo(g.dtype).eps) ** 2 * gg
        if x0 is not None:
            x = torch.where(active, x0, 0.0)
            r = g - (curvature.product(x) + damping * x)
            active = active & ~(torch.dot(r, r) <= target)
        z = precondition(r)
        p, rz = z, torch.dot(r, z)
        Ap = torch.zeros_like(g)
        negative = torch.zeros_like(active)
        sound = gg.isfinite() & (((rz > 0) & rz.isfinite()) | ~active)  # r^T N r > 0, or N is no preconditioner
        steps = torch.zeros_like(gg)
        for _ in range(self.iterations):
            if g.device.type == "cpu" and not all_ranks(active):
                break
            Ap = curvature.product(p) + damping * p
            pAp = torch.dot(p, Ap)
            sound = sound & (pAp.isfinite() | ~active)
            moved = active & (pAp > 0) & (rz > 0)
            negative = negative | (active & ((pAp <= 0) | (rz <= 0)))
            alpha = torch.where(moved, rz / pAp, 0.0)
            x = x + alpha * p
            r = r - alpha * Ap
            steps = steps + moved
            active = moved & (torch.dot(r, r) > target)
            z = precondition(r)
            rz_next = torch.dot(r, z)
            sound = sound & (rz_next.isfinite() | ~active)
            p = z + torch.where(active, rz_next / rz, 0.0) * p
            rz = rz_next
        if x0 is None:
            at_once = negative & (steps == 0)  # then p is still the first, and A p belongs to it
            x = torch.where(at_once, p, x)
            r = torch.where(at_once, g - Ap, r)
        x = torch.where(sound, x, torch.nan)  # a product that is no number must not pass for a direction
        return Solution(
            x=x,
            iterations=steps,
            error=torch.where(gg > 0, (torch.dot(r, r) / gg).sqrt(), 0.0),
            form=torch.dot(x, g - r) - damping * torch.dot(x, x),
            damping=damping,
            scalars={"solver/negative_curvature": negative},
            state={"x": x} if self.start == "warm" else {},
        )
