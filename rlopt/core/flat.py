"""Flat parameters: one tensor theta (P,) holds every parameter of a network, and layers read views of it.

The order is that of ``module.parameters()``, then the head's own constants. One tensor makes a step one kernel,
Adam one fused kernel, averaging one lerp and sharing one buffer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from rlopt.core.checks import check

CONSTANTS = "constants"  # the name of the head's state-independent outputs, last in theta


@dataclass(frozen=True)
class Layout:
    """Where each named parameter lies in theta."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module, constants: int = 0) -> Layout:
        """Layout of ``module.parameters()`` followed by ``constants`` numbers owned by the head."""
        named = [(name, tuple(p.shape)) for name, p in module.named_parameters()]
        taken = CONSTANTS in (name for name, _ in named)
        check(not taken, "a parameter's name", f"other than {CONSTANTS!r}, which is the head's", CONSTANTS)
        if constants:
            named.append((CONSTANTS, (constants,)))
        return cls(tuple(n for n, _ in named), tuple(s for _, s in named))

    @cached_property
    def sizes(self) -> list[int]:
        return [math.prod(shape) for shape in self.shapes]

    @cached_property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """name -> slice of theta."""
        ends = torch.tensor(self.sizes, dtype=torch.long).cumsum(0).tolist()
        return {name: slice(end - size, end) for name, size, end in zip(self.names, self.sizes, ends, strict=True)}

    def views(self, theta: Tensor) -> dict[str, Tensor]:
        """theta (P,) -> name -> view in the parameter's shape (no copy)."""
        parts = torch.split_with_sizes(theta, self.sizes)
        return {
            name: part if len(shape) == 1 else part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def stacked(self, thetas: Tensor) -> dict[str, Tensor]:
        """r thetas (r, P) -> name -> view (r, ...) in the parameter's shape (no copy)."""
        parts = torch.split_with_sizes(thetas, self.sizes, 1)
        named = zip(self.names, parts, self.shapes, strict=True)
        return {name: part if len(shape) == 1 else part.unflatten(1, shape) for name, part, shape in named}

    def flatten(self, module: nn.Module, constants: Tensor | None = None) -> Tensor:
        """The module's current parameters, then the constants, as one new theta (P,)."""
        parts = [p.detach().reshape(-1) for p in module.parameters()]
        if constants is not None and constants.numel():
            parts.append(constants.detach().reshape(-1).to(parts[0]) if parts else constants)
        return torch.cat(parts).clone()
