"""Block solver: (M_s + lambda I) x = g with M_s the blocks of M on its diagonal, and nothing between them.

| by       | a block holds                                         | mean over samples of          |
|---|---|---|
| layer    | all parameters of a layer                             | sum_k vec(D_k) vec(D_k)^T     |
| incoming | weights into one unit o, and its bias                 | sum_k d_ko^2 a a^T            |
| outgoing | weights out of one unit i; all of a layer's biases    | a_i^2 sum_k d_k d_k^T         |

D_k = sum_l d_kl a_l^T (J, C) is a sample's own gradient of factor k in a layer, of one position in the last two rows;
several positions are summed before anything is squared. A layer's biases are the weights out of its constant unit.

Blocks may be centred, averaged over updates and cut to their r leading eigenpairs; C_t is what the last update left:

    centred   mean_b D D^T - (mean_b D) (mean_b D)^T of every factor in place of mean_b D D^T
    decay     C_t = (1 - w_t) C_{t-1} + w_t (blocks of this batch),   w_t = (1 - decay) / (1 - decay^t)
    rank      C_t <- sum_i mu_i q_i q_i^T over its r leading pairs; lambda alone elsewhere

All three, with metric=gradient_covariance and blocks by incoming weights, are TONGA (Le Roux, Manzagol and Bengio
2008): the covariance of the samples' gradients, of which every average is cut down again before the next batch enters.
Deviation: blocks are formed and then cut, which costs less than TONGA's products between gradients where a batch has
more samples than a unit has weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import BATCH, ROOT, Requirements, Solution, Solve, Solver, State
from rlopt.core.requirements import Work
from rlopt.core.solvers.dense import damping_for, eigenvalues, factorise_blocks
from rlopt.core.solvers.per_layer import (
    LayerShape,
    chunks,
    gradients,
    join,
    layer_shape,
    one_factor,
    rooted,
    rooted_by_sample,
    split,
    statistics,
    weighted,
)
from rlopt.core.tapes.tape import Layer

By = Literal["layer", "incoming", "outgoing"]


@dataclass(frozen=True)
class Block(Solver):
    """x with (M_s + lambda I) x = g, M_s the blocks of M on its diagonal, by a Cholesky factor or eigenpairs of each.

    The state holds the blocks' running means, or their pairs, where ``decay`` is above 0.

    Options:
        by: what shares a block: layer, all parameters of a layer (small layers only); incoming, the weights into one
            unit; outgoing, the weights out of one.
        chunk: samples whose own gradients are held at a time while blocks are formed; 1 or above.
        centred: true subtracts the mean of each factor's gradients; false leaves the second moments about 0.
        decay: of the blocks' running means; 0 or above and below 1. 0 takes this batch alone.
        rank: eigenpairs kept of each block, 1 or above; null keeps the whole block.

    Source: Le Roux, Manzagol and Bengio 2008, TONGA. Raises ValueError where an option is out of its range,
    NumericalFailure where a block holds a number that is not finite or no lambda of eight suffices.
    """

    by: By
    chunk: int
    centred: bool
    decay: float
    rank: int | None

    def __post_init__(self) -> None:
        check(self.by in ("layer", "incoming", "outgoing"), "by", "layer, incoming or outgoing", self.by)
        at_least_one("chunk", self.chunk)
        check(0 <= self.decay < 1, "decay", "0 or above, and below 1", self.decay)
        if self.rank is not None:
            at_least_one("rank", self.rank)

    @property
    def requirements(self) -> Requirements:
        instead = {"decay": 0.0} if self.decay else {}
        return Requirements(instead=instead, reads_samples=self.centred, work=self._work)

    def _work(self, curvature: Curvature) -> Work:
        """Of the products of all gradients with themselves, block by block."""
        source = rooted(curvature)
        rows = float(len(source.share) * (1 if self.by == "incoming" else len(source.factors())))
        sizes = [(shape[0], math.prod(shape[1:])) for shape in source.tape.layout.shapes if len(shape) > 1]
        squares = {
            "layer": sum((J * C) ** 2 for J, C in sizes),
            "incoming": sum(J * C**2 for J, C in sizes),
            "outgoing": sum(C * J**2 for J, C in sizes),
        }
        return Work(operations=2 * rows * squares[self.by])

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({BATCH, ROOT} if self.decay else {ROOT})

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        if self.centred:
            rooted_by_sample(curvature)
        found, values = statistics(curvature, self._statistics)
        shapes, blocks = list(found.values()), [self._centred(*parts) for parts in values]
        if self.decay:
            weight = self.decay * state.get("weight", 0.0) + 1
            if "blocks" in state:
                old = [_whole(kept) for kept in state["blocks"].values()]
                blocks = [torch.lerp(before, now, 1 / weight) for before, now in zip(old, blocks, strict=True)]
            state = {**state, "weight": weight}
        if self.rank is None:
            kept = [{"C": block} for block in blocks]
            solve = self._by_factors(blocks, shapes, damping)
        else:
            kept = [_leading(block, self.rank) for block in blocks]
            solve = self._by_pairs(kept, shapes, damping)
        return solve, {**state, "blocks": dict(zip(found, kept, strict=True))} if self.decay else state

    def _by_factors(self, blocks: list[Tensor], shapes: list[LayerShape], damping: Tensor | float) -> Solve:
        factors, used = factorise_blocks(blocks, damping)

        def solve(g: Tensor) -> Solution:
            columns = [self._columns(G, shape) for G, shape in zip(split(g, shapes), shapes, strict=True)]
            x = [torch.cholesky_solve(c, factor) for c, factor in zip(columns, factors, strict=True)]
            Mx = [block @ c for block, c in zip(blocks, x, strict=True)]
            return Solution.measured(g, self._join(x, shapes), self._join(Mx, shapes), used)

        return solve

    def _by_pairs(self, pairs: list[State], shapes: list[LayerShape], damping: Tensor | float) -> Solve:
        mu = torch.cat([pair["mu"].flatten() for pair in pairs])
        cut = any(pair["Q"].shape[-1] < pair["Q"].shape[-2] for pair in pairs)
        used = damping_for(torch.cat([mu, mu.new_zeros(1)]) if cut else mu, damping)

        def solve(g: Tensor) -> Solution:
            columns = [self._columns(G, shape) for G, shape in zip(split(g, shapes), shapes, strict=True)]
            x, Mx = [], []
            for column, pair in zip(columns, pairs, strict=True):
                Q, mu = pair["Q"], pair["mu"][..., None]
                c = Q.mT @ column
                along = c / (mu + used)
                rest = (column - Q @ c) / used if Q.shape[-1] < Q.shape[-2] else 0.0
                x.append(Q @ along + rest)
                Mx.append(Q @ (mu * along))
            return Solution.measured(g, self._join(x, shapes), self._join(Mx, shapes), used)

        return solve

    def _statistics(self, layer: Layer, root: Tensor) -> tuple[Tensor, ...]:
        """The layer's blocks, and where they are to be centred each factor's mean gradient, in rows of its blocks."""
        if not self.centred:
            return (self._blocks(layer),)
        mean = torch.einsum("kblj,bli->kji", weighted(layer, root).signals, layer.inputs)[:, None]
        return self._blocks(layer), self._rows(mean, layer_shape(layer))

    def _centred(self, block: Tensor, mean: Tensor | None = None) -> Tensor:
        return block if mean is None else block - mean.mT @ mean

    def _blocks(self, layer: Layer) -> Tensor:
        """The layer's blocks about 0, a batch of square matrices."""
        shape = layer_shape(layer)
        total = None
        for part in chunks(one_factor(layer) if self.by == "incoming" else layer, self.chunk):
            rows = self._rows(gradients(part), shape)
            block = rows.mT @ rows
            total = block if total is None else total + block
        assert total is not None
        return total

    def _rows(self, D: Tensor, shape: LayerShape) -> Tensor:
        """Gradients D (K, b, J, C) in the rows of each block, (N, K b, size)."""
        if self.by == "layer":
            rows = shape.flat(D)[:, :, None]  # (K, b, 1, J C)
        else:
            rows = D if self.by == "incoming" else D.mT
        return rows.flatten(0, 1).transpose(0, 1)

    def _columns(self, G: Tensor, shape: LayerShape) -> Tensor:
        """A layer's part of theta (J, C) as one column for each of its blocks, (N, size, 1)."""
        if self.by == "layer":
            return shape.flat(G)[None, :, None]
        return (G if self.by == "incoming" else G.t())[:, :, None]

    def _join(self, columns: list[Tensor], shapes: list[LayerShape]) -> Tensor:
        """The columns (N, size, 1) of every layer as theta (P,)."""
        matrices = []
        for column, shape in zip(columns, shapes, strict=True):
            if self.by == "layer":
                matrices.append(shape.matrix(column.flatten()))
            else:
                matrices.append(column[:, :, 0] if self.by == "incoming" else column[:, :, 0].t())
        return join(matrices, shapes)


def _leading(block: Tensor, rank: int) -> State:
    """The ``rank`` leading eigenvalues mu (N, r), least first, of blocks (N, size, size), and their vectors Q."""
    mu, Q = eigenvalues(block)
    return {"mu": mu[:, -rank:].clamp(min=0), "Q": Q[:, :, -rank:]}


def _whole(kept: State) -> Tensor:
    """The blocks (N, size, size) that a state holds, whole or by their pairs."""
    C: Tensor = kept["C"] if "C" in kept else (kept["Q"] * kept["mu"][:, None]) @ kept["Q"].mT
    return C
