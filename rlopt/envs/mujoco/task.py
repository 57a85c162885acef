"""Task: what Gymnasium's MuJoCo tasks observe, pay and end by, over arrays of E environments.

Functions take numpy arrays or torch tensors, and return the same. In numpy, each row has the bits that Gymnasium's own
environment gives. Episodes begin by `draw` from a generator of numpy's, by `start` from tensors of noise: both have the
same distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlopt.core.arrays import library

Array = Any  # a numpy array or a torch tensor
Start = tuple[np.ndarray, np.ndarray]  # positions and velocities
Physics = SimpleNamespace  # arrays [E, ...] out of MuJoCo's mjData, by their names there


class Task(ABC):
    """Base of the tasks: what most of them share.

    ``model`` is MuJoCo's, ``options`` are the arguments of Gymnasium's constructor, ``dt`` is the time of one step of
    the environment in seconds.
    """

    reads: ClassVar[tuple[str, ...]] = ("qpos", "qvel")  # the arrays of mjData that the functions read
    contact_forces: ClassVar[bool] = False  # whether cfrc_ext is one of them, which costs MuJoCo a pass of its own
    unobserved: ClassVar[int] = 1  # leading positions that exclude_current_positions_from_observation leaves out

    def __init__(self, model: Any, options: SimpleNamespace, dt: float):
        self.model, self.options, self.dt = model, options, dt
        excluded = getattr(options, "exclude_current_positions_from_observation", False)
        self._first = self.unobserved if excluded else 0
        self.ends_unhealthy = getattr(options, "terminate_when_unhealthy", True)

    def prepare(self, like: Tensor) -> None:
        """Called once before tensors are: move constants to the device and the type of ``like``."""
        return None

    def place(self, s: Physics) -> Array:
        """[E] where the body is in the direction that pays, in metres."""
        return s.qpos[:, 0]

    def observe(self, s: Physics) -> Array:
        """[E, D] observations."""
        return library(s.qpos).concatenate((s.qpos[:, self._first :], s.qvel), 1)

    def healthy(self, s: Physics) -> Array | None:
        """[E] whether the body has not fallen; None where no such thing ends an episode."""
        return None

    @abstractmethod
    def reward(self, s: Physics, actions: Array, speed: Array, healthy: Array) -> Array:
        """[E] rewards of the step to ``s``; ``speed`` [E] is the change of `place` in it, in metres a second."""

    def draw(self, generator: np.random.Generator, qpos: np.ndarray, qvel: np.ndarray) -> Start:
        """Positions and velocities of an episode's beginning, around the model's own."""
        scale = self.options.reset_noise_scale
        qpos = qpos + generator.uniform(-scale, scale, len(qpos))
        return qpos, qvel + generator.uniform(-scale, scale, len(qvel))

    def draw_normal(self, generator: np.random.Generator, qpos: np.ndarray, qvel: np.ndarray) -> Start:
        """As `draw`, with normal velocities."""
        scale = self.options.reset_noise_scale
        qpos = qpos + generator.uniform(-scale, scale, len(qpos))
        return qpos, qvel + scale * generator.standard_normal(len(qvel))

    @property
    def start_size(self) -> int:
        """Numbers of noise that `start` takes."""
        return int(self.model.nq + self.model.nv)

    def start(self, noise: Tensor, qpos: Tensor, qvel: Tensor) -> tuple[Tensor, Tensor]:
        """What `draw` gives, of noise (..., start_size), uniform within (0, 1): (..., nq) and (..., nv)."""
        scale, spread = self.options.reset_noise_scale, 2 * noise - 1
        return qpos + scale * spread[..., : len(qpos)], qvel + scale * spread[..., len(qpos) :]

    def start_normal(self, noise: Tensor, qpos: Tensor, qvel: Tensor) -> tuple[Tensor, Tensor]:
        """As `start`, with normal velocities."""
        scale, (positions, velocities) = self.options.reset_noise_scale, noise.split([len(qpos), len(qvel)], -1)
        return qpos + scale * (2 * positions - 1), qvel + scale * torch.special.ndtri(velocities)


def square_sum(x: Array) -> Array:
    """[E] sum of squares of every row of x [E, ...]."""
    flat = x.reshape(len(x), -1)
    return (flat * flat).sum(1)


def length(x: Array) -> Array:
    """[E] length of every row of x [E, D]; of an array by dot, as np.linalg.norm has it, to the last bit."""
    return np.sqrt((x[:, None] @ x[..., None])[:, 0, 0]) if isinstance(x, np.ndarray) else square_sum(x) ** 0.5


def between(low: float, x: Array, high: float) -> Array:
    """Whether low < x < high; false for NaN."""
    return (low < x) & (x < high)
