"""The parts of a flat observation: where each key of a Dict or Tuple lies in its row, and the row as it was.

| part                              | in a row (D,)    | as a network of one's own gets it, N at a time       |
|---|---|---|
| Box                               | its numbers      | (N, *shape), normalised                              |
| Box of bytes in 2 to 4 dimensions | its pixels       | (N, *shape), over the largest value of its space     |
| Discrete, MultiDiscrete           | one-hots         | (N, number of all categories)                        |
| MultiBinary                       | bits             | (N, *shape)                                          |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.core.checks import check
from rlopt.envs.observations import as_image, declared, describe_space, flat_space, image, pixels


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


def keys_of(space: gym.Space, name: str = "") -> Iterator[str]:
    """The keys of a Dict, and those of Dicts within it, joined by dots."""
    for key, part in space.spaces.items() if isinstance(space, spaces.Dict) else ():
        full = f"{name}.{key}" if name else str(key)
        yield full
        yield from keys_of(part, full)


def only(space: gym.Space, keys: Sequence[str], name: str = "") -> gym.Space:
    """A Dict with what ``keys`` name alone, in its own order."""
    kept: list[tuple[str, gym.Space]] = []
    for key, part in space.spaces.items() if isinstance(space, spaces.Dict) else ():
        full = f"{name}.{key}" if name else str(key)
        if full in keys:
            kept.append((key, part))
        elif any(one in keys for one in keys_of(part, full)):
            kept.append((key, only(part, keys, full)))
    return spaces.Dict(kept)


def narrowed(space: gym.Space, keys: Sequence[str]) -> tuple[gym.Space, Tensor]:
    """The space of flat observations with these keys of a Dict alone, and (K,) where they are in a row of ``space``.

    Raises ValueError, which begins with ``keys``, where the observations have none of one of these names.
    """
    whole = declared(space)
    known = list(keys_of(whole))
    if not known:
        raise ValueError(f"keys names keys of a Dict, and the observations are {describe_space(whole)}; leave it out")
    check(len(keys) > 0, "keys", f"null or a list of some of {', '.join(known)}", list(keys))
    for key in keys:
        check(key in known, "keys", f"a list of some of {', '.join(known)}", list(keys))
    inside = [p.at for p in parts_of(whole) if any(p.name == key or p.name.startswith(f"{key}.") for key in keys)]
    found = flat_space(only(whole, keys))
    columns = torch.cat([torch.arange(at.start, at.stop) for at in inside])
    return as_image(found, "auto") if pixels(space) else found, columns


def pick(space: gym.Space, observation: Any) -> Any:
    """What ``space`` has of an observation, or of N of them: other keys of a Dict are left out. Raises ValueError."""
    if not isinstance(space, spaces.Dict):
        return observation
    if not isinstance(observation, Mapping) or (missing := [key for key in space.spaces if key not in observation]):
        came = f"one without {missing[0]!r}" if isinstance(observation, Mapping) else type(observation).__name__
        raise ValueError(f"an observation is a dictionary of {', '.join(map(str, space.spaces))}; got {came}")
    return {key: pick(part, observation[key]) for key, part in space.spaces.items()}


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
