"""Conjugate gradient for (M + lambda I) x = g, from products alone (Hestenes and Stiefel 1952).

Within the loop, in the usual letters: r = g - A x the residual, p the search direction, A = M + lambda I.

Negative or zero curvature p^T A p <= 0 ends the loop with the last good iterate (g itself if it is the first), and is
reported. All decisions are masks on the device; only on the CPU, where looking is free, does the loop leave early.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, between
from rlopt.core.curvature import Curvature
from rlopt.core.parts import PRODUCT, Solution, State


@dataclass(frozen=True)
class CG:
    iterations: int  # at most
    tolerance: float  # stop when |r| <= tolerance |g|; 0 runs all iterations

    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT})

    def __post_init__(self) -> None:
        at_least_one("iterations", self.iterations)
        between("tolerance", self.tolerance, 0, 1)

    def init(self) -> State:
        return {}

    def prepare(
        self, state: State, curvature: Curvature, damping: Tensor | float
    ) -> tuple[Callable[[Tensor], Solution], State]:
        def solve(g: Tensor) -> Solution:
            return self._solve(curvature, damping, g)

        return solve, state

    def _solve(self, curvature: Curvature, damping: Tensor | float, g: Tensor) -> Solution:
        x, r, p = torch.zeros_like(g), g.clone(), g.clone()
        Ap = torch.zeros_like(g)
        rr = gg = torch.dot(g, g)
        target = self.tolerance**2 * gg
        active = gg > 0
        negative = torch.zeros_like(active)
        sound = gg.isfinite()
        steps = torch.zeros_like(gg)
        for _ in range(self.iterations):
            if g.device.type == "cpu" and not active:
                break
            Ap = curvature.product(p) + damping * p
            pAp = torch.dot(p, Ap)
            sound = sound & (pAp.isfinite() | ~active)
            moved = active & (pAp > 0)
            negative = negative | (active & (pAp <= 0))
            alpha = torch.where(moved, rr / pAp, 0.0)
            x = x + alpha * p
            r = r - alpha * Ap
            rr_next = torch.dot(r, r)
            steps = steps + moved
            active = moved & (rr_next > target)
            p = r + torch.where(active, rr_next / rr, 0.0) * p
            rr = rr_next
        at_once = negative & (steps == 0)  # then p = g still, and A p = A g
        x = torch.where(at_once, g, x)
        r = torch.where(at_once, g - Ap, r)
        x = torch.where(sound, x, torch.nan)  # a product that is no number must not pass for a direction
        return Solution(
            x=x,
            iterations=steps,
            residual=torch.where(gg > 0, (torch.dot(r, r) / gg).sqrt(), 0.0),
            quadratic=torch.dot(x, g - r) - damping * torch.dot(x, x),
            damping=damping,
            scalars={"solver/negative_curvature": negative},
        )
