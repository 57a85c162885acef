"""An environment for every kind of space: one step, learned only if that kind is read, acted in and offset rightly.

| environment   | observation               | action        | which is right if                                        |
|---|---|---|---|
| MultiDiscrete | MultiDiscrete             | MultiDiscrete | each category answers to the observation's other one     |
| MultiBinary   | MultiBinary               | MultiBinary   | one bit is the parity of those seen, two are they swapped |
| Discrete      | Discrete                  | Discrete      | it is the observation's number, permuted                 |
| Dict          | Dict                      | Discrete      | it is the category that the number, of three parts, names |
| Tuple         | Tuple, with a Dict in it  | MultiBinary   | the bits are one of the bits seen and the number's sign  |
| Mixed         | Discrete                  | Dict          | its category and its number name the observation's       |
| MixedTuple    | Box                       | Tuple, with a Dict in it | every part tells the number's sign            |
| Whole         | Discrete                  | Box of bytes  | both numbers name the observation's                      |
| Seeing        | Dict with a 64 x 64 image | Discrete      | it is the quarter with a square, or the opposite one     |
| Image, ...    | bytes; channels last, first | Discrete    | it is the number of the corner where a pixel is bright   |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor


class Choice(gym.Env):
    """One step: of an observation drawn from its space by ``worth(observation, action)``, 1 for the right action."""

    def __init__(
        self,
        observations: Callable[[], spaces.Space],
        actions: Callable[[], spaces.Space],
        worth: Callable[[Any, Any], float],
        render_mode: str | None = None,
    ):
        self.observation_space, self.action_space, self._worth = observations(), actions(), worth

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._seen = self._draw()
        return self._seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return self._draw(), float(self._worth(self._seen, action)), True, False, {}

    def _draw(self) -> Any:
        return self.observation_space.sample()


class Bright(Choice):
    """Choice on images of faint noise, one pixel of which is bright, near the corner with the right action's number."""

    def __init__(self, height: int, width: int, shape: tuple[int, ...], render_mode: str | None = None):
        super().__init__(lambda: spaces.Box(0, 255, shape, np.uint8), lambda: spaces.Discrete(4), self._right)
        self._rows, self._columns = (1, height - 2), (1, width - 2)
        self._axis = shape.index(height)  # of rows; columns come next

    def _draw(self) -> np.ndarray:
        image = super()._draw() // 16
        corner = int(self.np_random.integers(4))
        spot = [int(self.np_random.integers(n)) for n in image.shape]
        spot[self._axis : self._axis + 2] = self._rows[corner // 2], self._columns[corner % 2]
        image[tuple(spot)] = 255
        return image

    def _right(self, image: np.ndarray, action: Any) -> float:
        row, column = np.argwhere(image == 255)[0][self._axis : self._axis + 2]
        return float(action == 2 * self._rows.index(row) + self._columns.index(column))


class Seeing(Choice):
    """Choice on a Dict: an image with a bright square, a vector and a category.

    The right action is the number of the quarter where the square is, or of the opposite one where the vector's first
    number is not above 0.
    """

    def __init__(self, side: int = 64, render_mode: str | None = None):
        parts = {
            "camera": spaces.Box(0, 255, (side, side, 1), np.uint8),
            "speed": spaces.Box(-np.inf, np.inf, (3,), np.float32),
            "task": spaces.Discrete(3),
        }
        super().__init__(lambda: spaces.Dict(parts), lambda: spaces.Discrete(4), self._right)
        self._side = side

    def _draw(self) -> Any:
        seen, size = super()._draw(), self._side // 8
        seen["camera"] //= 16
        row, column = (int(self.np_random.integers(self._side - size)) for _ in range(2))
        seen["camera"][row : row + size, column : column + size] = 255
        return seen

    def _right(self, seen: Any, action: Any) -> float:
        row, column, _ = np.argwhere(seen["camera"] == 255).mean(0) >= self._side / 2
        return float(action == (2 * row + column if seen["speed"][0] > 0 else 3 - 2 * row - column))


# a Dict with a part of every kind
PARTS = spaces.Dict(
    {
        "camera": spaces.Box(0, 255, (7, 9, 3), np.uint8),
        "inner": spaces.Tuple([spaces.Discrete(3, start=2), spaces.Box(-1, 1, (2, 2), np.float32)]),
        "stack": spaces.Box(0, 15, (2, 3, 6, 5), np.uint8),
        "switches": spaces.MultiBinary(2),
    }
)


def flat_samples(count: int) -> tuple[list[Any], Tensor]:
    """Observations of PARTS, and the same as rows in float64."""
    PARTS.seed(0)
    seen = [PARTS.sample() for _ in range(count)]
    return seen, torch.from_numpy(np.stack([spaces.flatten(PARTS, one) for one in seen])).double()


CHOICES: dict[str, Callable[..., gym.Env]] = {
    "MultiDiscrete": partial(
        Choice,
        lambda: spaces.MultiDiscrete([3, 2], start=[-1, 4]),
        lambda: spaces.MultiDiscrete([2, 3], start=[7, -2]),
        lambda o, a: np.mean([a[0] - 7 == o[1] - 4, a[1] + 2 == (o[0] + 2) % 3]),
    ),
    "MultiBinary": partial(
        Choice,
        lambda: spaces.MultiBinary(2),
        lambda: spaces.MultiBinary(3),
        lambda o, a: np.mean([a[0] == o[0] ^ o[1], a[1] == o[1], a[2] == o[0]]),
    ),
    "Discrete": partial(
        Choice,
        lambda: spaces.Discrete(5, start=3),
        lambda: spaces.Discrete(5, start=-2),
        lambda o, a: a + 2 == [3, 0, 4, 1, 2][o - 3],
    ),
    "Dict": partial(
        Choice,
        lambda: spaces.Dict({"which": spaces.Box(-1, 1, (1,)), "low": spaces.Discrete(3), "high": spaces.Discrete(3)}),
        lambda: spaces.Discrete(3),
        lambda o, a: a == (o["high"] if o["which"][0] > 0 else o["low"]),
    ),
    "Tuple": partial(
        Choice,
        lambda: spaces.Tuple([spaces.MultiBinary((1, 2)), spaces.Dict({"sign": spaces.Box(-1, 1, ())})]),
        lambda: spaces.MultiBinary((2, 1)),
        lambda o, a: np.mean([a[0, 0] == o[0][0, 1], a[1, 0] == (o[1]["sign"] > 0)]),
    ),
    "Mixed": partial(
        Choice,
        lambda: spaces.Discrete(3),
        lambda: spaces.Dict({"which": spaces.Discrete(3, start=1), "where": spaces.Box(0, 6, (1,), np.float32)}),
        lambda o, a: np.mean([a["which"] == 1 + (o + 1) % 3, np.exp(-((a["where"][0] - 1 - 2 * o) ** 2))]),
    ),
    "MixedTuple": partial(
        Choice,
        lambda: spaces.Box(-1, 1, (1,)),
        lambda: spaces.Tuple(
            [
                spaces.MultiBinary((2, 1)),
                spaces.Dict(
                    {
                        "free": spaces.Box(-np.inf, np.inf, (), np.float64),
                        "many": spaces.MultiDiscrete([2, 3], start=[5, -1]),
                        "whole": spaces.Box(-2, 2, (1, 2), np.int32),
                    }
                ),
            ]
        ),
        lambda o, a: np.mean(
            [
                *(bit == (o[0] > 0) for bit in a[0][:, 0]),
                np.exp(-((a[1]["free"] - np.sign(o[0])) ** 2)),
                a[1]["many"][0] == 5 + (o[0] > 0),
                a[1]["many"][1] == (o[0] > 0),
                *((n > 0) == (o[0] > 0) for n in a[1]["whole"][0]),
            ]
        ),
    ),
    "Whole": partial(
        Choice,
        lambda: spaces.Discrete(3),
        lambda: spaces.Box(np.array([0, 7], np.uint8), np.array([2, 9], np.uint8), dtype=np.uint8),
        lambda o, a: np.mean([a[0] == o, a[1] == 9 - o]),
    ),
    "Image": partial(Bright, 8, 10, (8, 10)),
    "ImageLast": partial(Bright, 10, 8, (10, 8, 3)),
    "ImageFirst": partial(Bright, 8, 10, (2, 8, 10)),
    "Seeing": Seeing,
}
