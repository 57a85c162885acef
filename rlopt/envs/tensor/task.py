"""Task: environments as functions of their states, for all of them at once; `TaskEnvs` makes environments of them.

A state is one tensor (E, S). A task says how it begins, what is seen of it and how it goes on. Everything else is done
here: seeds, ends of episodes, the time limit, and what a checkpoint needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor

from rlopt.envs.tensor.philox import Noise
from rlopt.envs.tensor.protocol import Stepped

_BEGINS, _STEPS, _AGES = range(3)  # purposes of noise
_AT_ONCE = {"cpu": 2**14}  # environments times steps whose noise is drawn at once, so that it stays in the cache
_AT_ONCE_ELSEWHERE = 2**20


class Task(ABC):
    """Base of tasks. Its constructor takes env.kwargs. Functions work on the device and in the type of the state."""

    observation_space: gym.Space[Any]  # of one environment, a Box
    action_space: gym.Space[Any]
    noise: Literal["uniform", "normal"] = "uniform"  # uniform is within (0, 1)
    start_size: int = 1  # numbers of noise that a beginning takes
    step_size: int = 0  # and a step
    limit: int | None = None  # steps of an episode; None: that of Gymnasium's registry, if it has one

    def prepare(self, like: Tensor) -> None:
        """Called once, before all others: move constants to the device and the type of ``like``."""
        return None

    @abstractmethod
    def start(self, noise: Tensor) -> Tensor:
        """States (..., S) of beginnings, from noise (..., start_size)."""

    def observe(self, state: Tensor) -> Tensor:
        """What is seen (..., D) of states (..., S); by default all."""
        return state

    @abstractmethod
    def step(self, state: Tensor, actions: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The states (E, S) that follow, rewards (E,) and whether the episodes terminate (E,) bool.

        ``noise`` is (E, step_size).
        """

    @classmethod
    def envs(
        cls,
        num_envs: int,
        device: torch.device,
        dtype: torch.dtype,
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> TaskEnvs:
        """A ``vector_entry_point`` for Gymnasium's registry: environments of this task."""
        task = cls(**kwargs)
        return TaskEnvs(task, num_envs, device, dtype, max_episode_steps, task.observation_space, task.action_space)


class TaskEnvs:
    """E environments of a task; see `protocol.FunctionalEnvs`. ``dtype`` is the type of states and observations.

    Episodes are truncated after ``limit`` steps, unless the task has a limit of its own. Episodes of one length that
    begin together stay together, and every rollout is then of one part of them: where ``staggered`` is set before a
    reset, each environment's first episode is truncated after a random share of the limit.
    """

    staggered = False

    def __init__(
        self,
        task: Task,
        num_envs: int,
        device: torch.device,
        dtype: torch.dtype,
        limit: int | None,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
    ):
        self.task, self.num_envs, self.device = task, num_envs, device
        self.limit = limit if task.limit is None else task.limit
        self.observation_space, self.action_space = observation_space, action_space
        self._like = torch.empty(0, dtype=dtype, device=device)
        task.prepare(self._like)
        self._rows = max(1, _AT_ONCE.get(device.type, _AT_ONCE_ELSEWHERE) // num_envs)
        self._state = self._elapsed = self._like  # until the first reset

    def reset(self, seed: int, first: int = 0) -> Tensor:
        given = seed, first, self.num_envs, self.device
        self._noises = Noise(*given, _BEGINS), Noise(*given, _STEPS)
        self._clock = 0  # resets and steps so far; noise is drawn for each
        self._drawn: int | None = None  # the clock of the first row of noise
        begins, _ = self._tick()
        self._state = begins.clone()
        self._elapsed = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        if self.staggered and self.limit is not None:
            shares = Noise(*given, _AGES).draw("uniform", 0, 1, 1, torch.float64)[0, :, 0]
            self._elapsed = (self.limit * shares).long()
        return self.task.observe(self._state)

    def step(self, actions: Tensor) -> Stepped:
        (self._state, self._elapsed), found = self.advance((self._state, self._elapsed), actions, self._tick())
        return found

    def advance(
        self, running: Sequence[Tensor], actions: Tensor, drawn: Sequence[Tensor]
    ) -> tuple[tuple[Tensor, ...], Stepped]:
        begins, noise = drawn
        actions = actions.to(self._like.dtype) if actions.is_floating_point() else actions
        state, reward, terminated = self.task.step(running[0], actions, noise)
        last = self.task.observe(state)
        elapsed = running[1]
        if self.limit is None:
            truncated = torch.zeros_like(terminated)
        else:
            elapsed = elapsed + 1
            truncated = elapsed >= self.limit
        over = terminated | truncated
        state = torch.where(over[:, None], begins, state)
        found = Stepped(self.task.observe(state), reward, terminated, truncated, last)
        return (state, elapsed.masked_fill(over, 0)), found

    def draw(self, steps: int) -> tuple[Tensor, ...]:
        rows = [self._tick() for _ in range(steps)]
        return tuple(torch.stack(column) for column in zip(*rows, strict=True))

    @property
    def running(self) -> tuple[Tensor, ...]:
        return self._state, self._elapsed

    @running.setter
    def running(self, found: Sequence[Tensor]) -> None:
        self._state, self._elapsed = found

    def state(self) -> dict[str, Tensor]:
        clock = torch.full_like(self._elapsed, self._clock)
        return {"state": self._state, "elapsed": self._elapsed, "clock": clock}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._state = state["state"].to(self._like).view_as(self._state).clone()
        self._elapsed = state["elapsed"].to(self._elapsed).view_as(self._elapsed).clone()
        self._clock, self._drawn = int(state["clock"][0]), None

    def close(self) -> None:
        pass

    def _tick(self) -> tuple[Tensor, Tensor]:
        """States (E, S) for episodes that begin now, and noise (E, step_size) for this step."""
        if self._drawn is None or self._clock >= self._drawn + self._rows:
            self._drawn, task = self._clock, self.task
            sizes = task.start_size, task.step_size
            begins, self._pushes = (
                noise.draw(task.noise, self._clock, self._rows, size, self._like.dtype)
                for noise, size in zip(self._noises, sizes, strict=True)
            )
            self._begins = task.start(begins)
        row = self._clock - self._drawn
        self._clock += 1
        return self._begins[row], self._pushes[row]
