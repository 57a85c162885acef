"""Network: a module's structure apart from its parameters, which always come as one theta (P,)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from rlopt.core.checks import check
from rlopt.core.flat import CONSTANTS, Layout
from rlopt.core.requirements import Incompatible
from rlopt.core.tapes.array import ArrayTape, Chain, bind, suits
from rlopt.core.tapes.autograd import AutogradTape, call_module
from rlopt.core.tapes.frozen import FrozenTape
from rlopt.core.tapes.joined import SLICE, SLICE_ELSEWHERE, sliced
from rlopt.core.tapes.masked import MaskedTape, apply_mask
from rlopt.core.tapes.mlp import Affine, MLPTape, plan
from rlopt.core.tapes.tape import Tape

_ROWS = 1024  # of inputs at a time on the CPU, where only outputs are wanted: not all activations are alive then


class Network:
    """Maps theta (P,) and inputs (B, ...) to outputs z (B, O).

    ``constants`` numbers at the end of theta are outputs that do not depend on the input (a Gaussian's scale).
    Chains of Linear layers, activations and layer normalisations that are known, see `tapes.mlp.plan`, run without
    autograd; any other module runs with it. The module does not see the last ``unread`` columns of the inputs; if the
    network is ``masked`` these say, by 1 and 0, which of as many last outputs are allowed. Where it has ``columns``
    (K,), its inputs are these columns of the rows of observations, see `select`.
    """

    def __init__(self, module: nn.Module, constants: int = 0, unread: int = 0, masked: bool = False):
        self.module = module
        self.unread, self.masked = unread, masked
        self.layout = Layout.of(module, constants)
        self.plan = plan(module)
        self.memory: int = getattr(module, "memory_size", 0)  # numbers that it carries from one row to the next
        self.columns: Tensor | None = None
        self.free: Tensor | None = None  # (P,) 1 for parameters that move, 0 for frozen ones; None: all move
        self._seen: tuple[Tensor, dict[str, Tensor]] | None = None
        self._bound: Chain | None = None  # the same views as arrays, where they were asked for

    def freeze(self, patterns: Sequence[str]) -> None:
        """Let the parameters whose names match one of the ``patterns``, such as "0.*", stay as they are.

        Raises ValueError where a pattern matches none, or nothing is left to move.
        """
        names = self.layout.names
        for pattern in patterns:
            check(any(fnmatchcase(n, pattern) for n in names), "freeze", f"of {', '.join(names)}", pattern)
        moves = [not any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
        check(any(moves), "freeze", "some parameters left to learn", list(patterns))
        each = torch.tensor(moves, dtype=torch.float32)
        self.free = each.repeat_interleave(torch.tensor(self.layout.sizes)) if patterns else None

    def select(self, rows: Tensor) -> Tensor:
        """Inputs (..., K) from rows (..., D) of whole observations; the rows themselves where it sees all of them."""
        return rows if self.columns is None else rows.index_select(-1, self.columns.to(rows.device))

    def tape(self, theta: Tensor, inputs: Tensor | np.ndarray) -> Tape:
        """Forward pass that keeps what the Jacobian products need; of an array where `takes_arrays` says so."""
        if self.free is None:
            return self._unfrozen(theta, inputs)
        return cast(Tape, FrozenTape(self._unfrozen(theta, inputs), self.free.to(theta)))

    def _unfrozen(self, theta: Tensor, inputs: Tensor | np.ndarray) -> Tape:
        if not self.unread:
            return self._tape(theta, inputs)
        tape, mask = self._tape(theta, inputs[:, : -self.unread]), inputs[:, -self.unread :]
        if isinstance(tape, ArrayTape):  # of a network that is not masked
            return tape
        return cast(Tape, MaskedTape(tape, self.unread, cast(Tensor, mask) if self.masked else None))

    def _tape(self, theta: Tensor, inputs: Tensor | np.ndarray) -> Tape:
        """The record of inputs without unread columns."""
        if self.plan is None:
            own = self.module.own_tape(self.layout, theta, inputs) if self.memory else None  # type: ignore[operator]
            return own or AutogradTape(self.module, self.layout, theta, cast(Tensor, inputs))
        views = self.views(theta)
        if isinstance(inputs, Tensor):
            make = MLPTape if len(inputs) <= (SLICE if inputs.is_cpu else SLICE_ELSEWHERE) else sliced
            return make(self.plan, self.layout, views, inputs)
        if self._bound is None:
            self._bound = bind(self.plan, self.layout, views)
        return cast(Tape, ArrayTape(self.plan, self._bound, self.layout, views, inputs))

    def takes_arrays(self, theta: Tensor, inputs: Tensor, count: int) -> bool:
        """True where a tape of ``count`` of these inputs at a time is better made of arrays."""
        plain = self.plan is not None and not self.masked and self.free is None
        return plain and suits(cast(list[Affine], self.plan), self.views(theta), inputs, count)

    def outputs(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """Forward pass only: z (B, O)."""
        if not self.unread:
            return self._outputs(theta, inputs)
        z = self._outputs(theta, inputs[:, : -self.unread])
        return apply_mask(z, inputs[:, -self.unread :])[0] if self.masked else z

    def _outputs(self, theta: Tensor, inputs: Tensor) -> Tensor:
        """z of inputs without unread columns."""
        if self.plan is not None:
            return self._chain(self.plan, theta, inputs)
        views = dict(self.views(theta))
        constants = views.pop(CONSTANTS, None)
        with torch.no_grad():
            z = call_module(self.module, views, inputs)
            return z if constants is None else torch.cat([z, constants.expand(len(z), -1)], 1)

    @property
    def sequence(self) -> int:
        """Rows that belong together, in time; 1 without memory. See `rlopt.policy.recurrent`."""
        return getattr(self.module, "sequence_length", 1)

    @torch.no_grad()
    def unroll(self, theta: Tensor, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """z (B, O) of a network with memory on rows in sequences of ``length``, and its memory (B, M) after each."""
        views = dict(self.views(theta))
        constants = views.pop(CONSTANTS, None)
        z, memory = functional_call(self.module, views, (rows,), {"length": length, "remember": True})
        return (z if constants is None else torch.cat([z, constants.expand(len(z), -1)], 1)), memory

    def _chain(self, layers: list[Affine], theta: Tensor, inputs: Tensor) -> Tensor:
        views = self.views(theta)
        if len(inputs) <= _ROWS or not inputs.is_cpu:
            return MLPTape(layers, self.layout, views, inputs).outputs
        return torch.cat([MLPTape(layers, self.layout, views, part).outputs for part in inputs.split(_ROWS)])

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """Named views of theta; those of the theta seen last are kept."""
        if self._seen is None or self._seen[0] is not theta:
            self._seen, self._bound = (theta, self.layout.views(theta)), None
        return self._seen[1]


@torch.no_grad()
def missing_layers(network: Network, theta: Tensor, width: int) -> str:
    """Why a network of rows (B, width) has no layer statistics of all its parameters; nothing where it has them."""
    if network.plan is not None:
        return ""
    tape = network.tape(theta, theta.new_zeros(2, width))
    try:
        tape.layers(torch.ones_like(tape.outputs)[None])
    except Incompatible as error:
        return error.reason
    return ""
