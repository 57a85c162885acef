"""Evaluation on games of several agents: whole games, all of whose agents act by the one frozen policy.

A game's return is the mean over its agents of the sum of their rewards, and its length counts the steps of the game. In
a game with two sides both are played by this policy: what it does against a frozen one is self_play/return.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from rlopt.core.heads import Head
from rlopt.envs.agents import Game
from rlopt.envs.observations import observation_dtype, observation_size
from rlopt.envs.spaces import action_transform
from rlopt.envs.vector import StepCounter
from rlopt.envs.wrappers import guard
from rlopt.policy.inference import FrozenPolicy
from rlopt.rollout.seeding import Purpose, integer, sequence


class GamePlayer:
    """Plays ``episodes`` numbered games, one in each copy at a time. It has the members of an EpisodePlayer.

    The seed and the noise of a game depend on ``seed`` and its number alone. ``longest`` are a game's most steps.
    """

    def __init__(
        self,
        copies: Sequence[Game],
        policy: FrozenPolicy,
        head: Head,
        episodes: int,
        seed: int,
        deterministic: bool,
        longest: int,
        title: str = "the evaluation",
    ):
        self.returns, self.lengths = [0.0] * episodes, [0] * episodes  # so far
        self.begun = self.cut = 0  # games
        self.playing: dict[int, int] = {}  # copy -> number of its game
        self.longest, self.counter = longest, StepCounter()
        self._copies, self._policy, self._head, self._seed = list(copies), policy, head, seed
        self._deterministic, self._title = deterministic, title
        self._generators: dict[int, np.random.Generator] = {}  # copy -> noise of its game
        first = self._copies[0]
        self._agents, space = len(first.names), first.row_space
        self._transform = action_transform(first.action_of_one, getattr(head, "squash", False))
        rows, dtype = len(self._copies) * self._agents, policy.theta.dtype
        self._raw = torch.zeros(rows, observation_size(space), dtype=observation_dtype(space, dtype))
        self._noise = torch.zeros(rows, head.noise_size, dtype=dtype)
        self._memory = torch.zeros(rows, policy.memory_size, dtype=dtype) if policy.memory_size else None
        self._there = np.zeros((len(self._copies), self._agents), bool)  # agents that took part in the copy's game

    def play(self) -> Iterator[None]:
        """Play all games; yields after the first resets, and after each step of all copies."""
        for copy in range(len(self._copies)):
            self._begin(copy)
        yield
        while self.playing:
            actions = self._act()
            for copy in list(self.playing):
                self._step(copy, actions[copy * self._agents : (copy + 1) * self._agents])
            yield

    def describe(self) -> str:
        """The game that is being stepped and its step, as the subject of an error message."""
        copy = self.counter.environment
        number = self.playing.get(copy)
        step = "first reset" if number is None else f"step {self.lengths[number] + 1:,} of a game"
        return f"copy {copy} of {self._title}, at its {step},"

    def progress(self) -> object:
        """Changes whenever a game returns."""
        return self.begun, self.counter.snapshot()

    def close(self) -> None:
        for game in self._copies:
            game.close()

    def _begin(self, copy: int) -> None:
        """Begin the next game in this copy; without one left it stays idle."""
        self.playing.pop(copy, None)
        if self.begun == len(self.returns):
            return
        number, self.counter.environment = self.begun, copy
        with guard(self.describe):
            self._copies[copy].reset(seed=integer(self._seed, Purpose.EVALUATION_ENVIRONMENT, number))
        self._generators[copy] = np.random.default_rng(sequence(self._seed, Purpose.EVALUATION_ACTION, number))
        self._there[copy] = self._copies[copy].present
        if self._memory is not None:
            self._memory[self._rows(copy)] = 0
        self.playing[copy] = number
        self.begun += 1

    def _step(self, copy: int, actions: Any) -> None:
        game, number = self._copies[copy], self.playing[copy]
        self.counter.environment, self.counter.step = copy, self.counter.step + 1
        with guard(self.describe):
            _, reward, over, _, _ = game.step(actions)
        self._there[copy] |= game.present
        self.returns[number] += reward
        self.lengths[number] += 1
        stopped = not over and self.lengths[number] >= self.longest
        self.cut += stopped
        if over or stopped:
            self.returns[number] /= int(self._there[copy].sum())
            self._begin(copy)

    @torch.inference_mode()
    def _act(self) -> Any:
        """An action for each agent of all copies; those of absent agents and of idle copies mean nothing."""
        head = self._head
        for copy, game in enumerate(self._copies):
            self._raw[self._rows(copy)] = torch.from_numpy(game.rows.reshape(self._agents, -1)).to(self._raw.dtype)
        z = self._policy.outputs(self._policy.normalise(self._raw, out=torch.empty_like(self._raw)), self._memory)
        if self._deterministic:
            return self._transform(head.mode(z))
        noise = self._noise.numpy()
        for copy, number in self.playing.items():
            if head.hold and self.lengths[number] % head.hold or head.hold is None and self.lengths[number]:
                continue
            generator = self._generators[copy]
            draw = generator.standard_normal if head.noise == "normal" else generator.random
            noise[self._rows(copy)] = draw((self._agents, head.noise_size))
        return self._transform(head.sample(z, self._noise))

    def _rows(self, copy: int) -> slice:
        return slice(copy * self._agents, (copy + 1) * self._agents)
