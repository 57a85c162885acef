"""Diagonal solver: x = g / (d + lambda), with d (P,) standing for M.

| method                | d, L summed before squaring, mean over samples                                 |
|---|---|
| exact                 | diag M = mean_b sum_k (J_b^T u_kb)^2; with one position (sum_k d_k^2)^T (a^2)    |
| hutchinson            | mean of v * (M v) over random signs v (P,) (Hutchinson 1990; Bekas et al. 2007)  |
| curvature_propagation | mean_b (J_b^T sum_k e_k u_kb)^2 over random signs e_k (Martens et al. 2012)      |
| lehman_sum            | sum_k (mean_b J_b^T u_kb)^2, SM-G-SUM of Lehman et al. 2018                      |
| lehman_abs            | sum_k (mean_b abs J_b^T u_kb)^2, SM-G-ABS of the same                            |

Hutchinson and curvature propagation equal diag M in expectation over the signs, the latter from one factor in place of
K. Lehman's sensitivities, with the Gauss-Newton metric, have for factors the outputs themselves; sum <= abs <= exact.
Negative entries, Hutchinson's noise or an indefinite M, count as 0, and how many is reported.
Where d + lambda and g are both 0 so is x, the least of the solutions; where only d + lambda is, there is no finite x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check, non_negative
from rlopt.core.curvature import Curvature, PullBack, factored
from rlopt.core.parts import PRODUCT, ROOT, Requirements, Solution, Solve, Solver, State
from rlopt.core.seeds import seeded
from rlopt.core.solvers.per_layer import (
    chunks,
    gradients,
    join,
    layer_means,
    rooted,
    rooted_by_sample,
    squares,
    weighted,
)
from rlopt.core.tapes.tape import Layer
from rlopt.parallel.collectives import rank

Method = Literal["exact", "hutchinson", "curvature_propagation", "lehman_sum", "lehman_abs"]
_RANDOM = ("hutchinson", "curvature_propagation")


@dataclass(frozen=True)
class Diagonal(Solver):
    """x = g / (d + lambda), entry by entry, with d (P,) the diagonal of M or an estimate of it.

    Options:
        method: exact, hutchinson, curvature_propagation, lehman_sum or lehman_abs: see the module's table.
        draws: of random signs, for hutchinson (a product each) and curvature_propagation (a factor each); 1 or above.
        seed: of the random signs; every solve draws new ones; 0 or above.
        chunk: samples at a time where their own gradients are formed; 1 or above.

    Source: Hutchinson 1990; Martens et al. 2012; Lehman et al. 2018. Raises ValueError where an option is out of its
    range. x is NaN where d is not finite, infinite or NaN where d + lambda is 0 and g is not.
    """

    method: Method
    draws: int
    seed: int
    chunk: int

    def __post_init__(self) -> None:
        methods = Method.__args__  # type: ignore[attr-defined]
        check(self.method in methods, "method", f"one of {', '.join(methods)}", self.method)
        at_least_one("draws", self.draws)
        non_negative("seed", self.seed)
        at_least_one("chunk", self.chunk)

    @property
    def requirements(self) -> Requirements:
        if self.method in _RANDOM:
            return Requirements()
        return Requirements(reads_samples=True, unread={"draws": "method", "seed": "method"})

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({PRODUCT if self.method == "hutchinson" else ROOT})

    def init(self) -> State:
        return {"solves": 0} if self.method in _RANDOM else {}

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        kept: list[Tensor] = []  # the diagonal, once the first g has shown its type and device

        def solve(g: Tensor) -> Solution:
            if not kept:
                kept.append(self._diagonal(curvature, state, g))
            d = kept[0].clamp(min=0)
            x = torch.where((d + damping == 0) & (g == 0), 0.0, g / (d + damping))
            x = torch.where(d.isinf(), torch.nan, x)  # or an overflow would pass for a direction that must not move
            return Solution.measured(g, x, d * x, damping, scalars={"solver/clamped": (kept[0] < 0).sum()})

        new = {"solves": state["solves"] + 1} if self.method in _RANDOM else state
        return solve, new

    def _diagonal(self, curvature: Curvature, state: State, like: Tensor) -> Tensor:
        """d (P,), of the type and on the device of ``like``."""
        if self.requirements.reads_samples:
            rooted_by_sample(curvature)
        if self.method == "exact":
            return exact_diagonal(curvature, self.chunk)
        if self.method == "hutchinson":
            signs = self._signs(state, (self.draws, curvature.size), like)  # the same on every rank
            return torch.stack([v * curvature.product(v) for v in signs]).mean(0)
        if self.method == "curvature_propagation":
            return exact_diagonal(self._propagated(curvature, state), self.chunk)
        means, shapes = layer_means(curvature, _sums if self.method == "lehman_sum" else self._magnitudes)
        return join([mean.square().sum(0) for mean in means], shapes)

    def _propagated(self, curvature: Curvature, state: State) -> PullBack:
        """The curvature with ``draws`` random combinations of its factors in their place."""
        source = rooted(curvature)
        U = source.factors()
        signs = self._signs(state, (self.draws, *U.shape[:2]), U, rank())  # every sample has its own
        return factored(source.tape, source.share, torch.einsum("nkb,kbo->nbo", signs, U) / self.draws**0.5)

    def _magnitudes(self, layer: Layer, root: Tensor) -> Tensor:
        """sum_b share_b abs(J_b^T u_kb), (K, J, C)."""
        layer = weighted(layer, root)
        if layer.signals.shape[2] == 1:
            return layer.signals[:, :, 0].abs().mT @ layer.inputs[:, 0].abs()
        return torch.stack([gradients(part).abs().sum(1) for part in chunks(layer, self.chunk)]).sum(0)

    def _signs(self, state: State, shape: tuple[int, ...], like: Tensor, of: int = 0) -> Tensor:
        """Random signs that depend on the seed, on how many solves there were and on ``of``; not on the device."""
        generator = seeded(self.seed, state["solves"], of)
        return torch.randint(0, 2, shape, generator=generator).mul_(2).sub_(1).to(like)


def exact_diagonal(curvature: Curvature, chunk: int) -> Tensor:
    """diag M (P,), from the curvature's root; ``chunk`` samples at a time where a layer has positions."""

    def squared(layer: Layer, root: Tensor) -> Tensor:
        """sum_b share_b sum_k (J_b^T u_kb)^2, (J, C)."""
        if layer.signals.shape[2] == 1:
            d = squares(layer)
            by_weight = d.t() @ layer.activations[:, 0].square()
            return torch.cat([by_weight, d.sum(0)[:, None]], 1) if layer.bias_name else by_weight
        return torch.stack([gradients(part).square().sum((0, 1)) for part in chunks(layer, chunk)]).sum(0)

    return join(*layer_means(curvature, squared))


def _sums(layer: Layer, root: Tensor) -> Tensor:
    """sum_b share_b J_b^T u_kb, (K, J, C)."""
    return torch.einsum("kblj,bli->kji", weighted(layer, root).signals, layer.inputs)
