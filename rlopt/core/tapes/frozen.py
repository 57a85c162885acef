"""FrozenTape: the record of a network of which some parameters do not move.

    J' = J F,   M' = F M F,   g' = F g,   F = diag(free), 1 for a parameter that moves and 0 for one that is frozen

So (M' + lambda I)^-1 g' is 0 for the frozen ones, and for the others what the network alone of them would give: every
metric and solver works in the subspace of the free parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from rlopt.core.requirements import Incompatible, Remedy
from rlopt.core.tapes.tape import Layer, Tape


class FrozenTape:
    """``tape`` with the parameters frozen where ``free`` (P,) is 0."""

    def __init__(self, tape: Tape, free: Tensor):
        self._tape, self._free = tape, free
        self.chain, self.sequence, self.layout = tape.chain, tape.sequence, tape.layout
        self.size, self.width, self.outputs = tape.size, tape.width, tape.outputs

    def jvp(self, v: Tensor) -> Tensor:
        return self._tape.jvp(v * self._free)

    def vjp(self, u: Tensor) -> Tensor:
        return self._tape.vjp(u) * self._free

    def jvps(self, V: Tensor) -> Tensor:
        return self._tape.jvps(V * self._free[:, None])

    def vjps(self, U: Tensor) -> Tensor:
        return self._tape.vjps(U) * self._free[:, None]

    def hvp(self, u: Tensor, v: Tensor) -> Tensor:
        return self._tape.hvp(u, v * self._free) * self._free

    def layers(self, signals: Tensor, constants: Tensor | None = None) -> list[Layer]:
        """See `Tape.layers`; those of frozen layers are sent nothing. Raises Incompatible for half of a layer."""
        views, found = self.layout.views(self._free), []
        for layer in self._tape.layers(signals, constants):
            names = (layer.weight_name, layer.bias_name or layer.weight_name)
            own = [name.partition("[")[0] for name in names]  # weight[512:] is a part of weight
            moves = {bool(views[name].flatten()[0]) for name in own}
            if len(moves) > 1:
                raise Incompatible(
                    f"layer statistics are of whole layers, and of {' and '.join(own)} one is frozen; freeze both",
                    Remedy.OTHER_SOLVER,
                )
            found.append(layer if moves == {True} else replace(layer, signals=torch.zeros_like(layer.signals)))
        return found

    def parts(self, rows: int) -> Iterator[tuple[slice, Tape]]:
        for at, tape in self._tape.parts(rows):
            yield at, cast(Tape, FrozenTape(tape, self._free))

    def take(self, index: Tensor) -> Tape:
        return cast(Tape, FrozenTape(self._tape.take(index), self._free))

    def theta(self) -> Tensor:
        return self._tape.theta()

    def at(self, theta: Tensor, inputs: Tensor) -> Tape:
        return cast(Tape, FrozenTape(self._tape.at(theta, inputs), self._free))
