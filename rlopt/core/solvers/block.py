"""Block solver: (M_s + lambda I) x = g with M_s the blocks of M on its diagonal, exactly, and nothing between them.

| by       | a block holds                                         | mean over samples of          |
|---|---|---|
| layer    | all parameters of a layer                             | sum_k vec(D_k) vec(D_k)^T     |
| incoming | weights into one unit o, and its bias                 | sum_k d_ko^2 a a^T            |
| outgoing | weights out of one unit i; all of a layer's biases    | a_i^2 sum_k d_k d_k^T         |

D_k = sum_l d_kl a_l^T (J, C) is a sample's own gradient of factor k in a layer, of one position in the last two rows;
several positions are summed before anything is squared. Blocks by incoming weights are those of TONGA (Le Roux,
Manzagol and Bengio 2007); a layer's biases are the weights out of its constant unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rlopt.core.checks import at_least_one, check
from rlopt.core.curvature import Curvature
from rlopt.core.parts import ROOT, Solution, Solve, Solver, State
from rlopt.core.solvers.dense import factorise_blocks
from rlopt.core.solvers.per_layer import (
    LayerShape,
    chunks,
    gradients,
    join,
    layer_means,
    layer_shape,
    one_factor,
    split,
)
from rlopt.core.tapes.tape import Layer

By = Literal["layer", "incoming", "outgoing"]


@dataclass(frozen=True)
class Block(Solver):
    """x with (M_s + lambda I) x = g, M_s the exact blocks of M on its diagonal, by a Cholesky factor of each.

    Options:
        by: what shares a block: layer, all parameters of a layer (small layers only); incoming, the weights into one
            unit; outgoing, the weights out of one.
        chunk: samples whose own gradients are held at a time while blocks are formed; 1 or above.

    Source: Le Roux, Manzagol and Bengio 2007 for incoming. Raises ValueError where an option is out of its range,
    NumericalFailure where a block holds a number that is not finite or no lambda of eight suffices.
    """

    by: By
    chunk: int

    needs: ClassVar[frozenset[str]] = frozenset({ROOT})

    def __post_init__(self) -> None:
        check(self.by in ("layer", "incoming", "outgoing"), "by", "layer, incoming or outgoing", self.by)
        at_least_one("chunk", self.chunk)

    def prepare(self, state: State, curvature: Curvature, damping: Tensor | float) -> tuple[Solve, State]:
        blocks, shapes = layer_means(curvature, self._blocks)
        factors, used = factorise_blocks(blocks, damping)

        def solve(g: Tensor) -> Solution:
            columns = [self._columns(G, shape) for G, shape in zip(split(g, shapes), shapes, strict=True)]
            x = [torch.cholesky_solve(c, factor) for c, factor in zip(columns, factors, strict=True)]
            Mx = [block @ c for block, c in zip(blocks, x, strict=True)]
            return Solution.measured(g, self._join(x, shapes), self._join(Mx, shapes), used)

        return solve, state

    def _blocks(self, layer: Layer, root: Tensor) -> Tensor:
        """The layer's blocks, a batch of square matrices."""
        shape = layer_shape(layer)
        total = None
        for part in chunks(one_factor(layer) if self.by == "incoming" else layer, self.chunk):
            D = gradients(part)  # (K, b, J, C)
            if self.by == "layer":
                rows = shape.flat(D)[:, :, None]  # (K, b, 1, J C)
            else:
                rows = D if self.by == "incoming" else D.mT
            # (N blocks, K b, size)
            rows = rows.flatten(0, 1).transpose(0, 1)
            block = rows.mT @ rows
            total = block if total is None else total + block
        assert total is not None
        return total

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
