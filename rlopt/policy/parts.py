"""The parts of a flat observation: where each key of a Dict or Tuple lies in its row, and the row as it was.

| part                              | in a row (D,)    | as a network of one's own gets it, N at a time       |
|---|---|---|
| Box                               | its numbers      | (N, *shape), normalised                              |
| Box of bytes in 2 to 4 dimensions | its pixels       | (N, *shape), over the largest value of its space     |
| Discrete, MultiDiscrete           | one-hots         | (N, number of all categories)                        |
| MultiBinary                       | bits             | (N, *shape)                                          |
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.envs.observations import declared, image


class Part(NamedTuple):
    """One part of an observation that has no parts itself."""

    name: str  # its key; keys of Dicts within others are joined by dots, places in Tuples are numbers
    space: gym.Space
    at: slice  # within a row


def parts_of(space: gym.Space, name: str = "", start: int = 0) -> Iterator[Part]:
    """The parts of a declared space, in the order in which they are flattened; one without a name if it has none."""
    inner: list[tuple[Any, gym.Space]] = []
    if isinstance(space, spaces.Dict):
        inner = list(space.spaces.items())
    elif isinstance(space, spaces.Tuple):
        inner = list(enumerate(space.spaces))
    else:
        yield Part(name, space, slice(start, start + spaces.flatdim(space)))
    for key, part in inner:
        yield from parts_of(part, f"{name}.{key}" if name else str(key), start)
        start += spaces.flatdim(part)


def unflatten(space: gym.Space, rows: Tensor) -> Any:
    """Rows (N, D) as observations of a declared space: a dict, a tuple or a tensor; see the module's table."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        one_hot = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
        return rows if one_hot else rows.reshape(len(rows), *(space.shape or ()))
    inner: Any = space.spaces
    keys = list(inner) if isinstance(space, spaces.Dict) else range(len(inner))
    sizes = [spaces.flatdim(inner[key]) for key in keys]
    found = {key: unflatten(inner[key], part) for key, part in zip(keys, rows.split(sizes, 1), strict=True)}
    return found if isinstance(space, spaces.Dict) else tuple(found.values())


class OnObservations(nn.Module):
    """A network of observations as one of flat rows (N, D)."""

    def __init__(self, network: nn.Module, space: gym.Space):
        super().__init__()
        self.network, self._space, self._image = network, declared(space), image(space)

    def forward(self, rows: Tensor) -> Tensor:
        if self._image is not None:
            rows = rows.to(next(self.network.parameters()).dtype) / self._image.high
        outputs: Tensor = self.network(unflatten(self._space, rows))
        return outputs
