"""simple_spread as tensors: the game of mpe2 1.1.1 at its defaults, thousands of times at once.

A row is an agent, and three rows one after another are a game (Lowe et al. 2017, Multi-agent actor-critic for mixed
cooperative-competitive environments).
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rlopt.envs.tensor.philox import Noise
from rlopt.envs.tensor.protocol import Stepped

AGENTS, STEPS = 3, 25
_SECONDS, _KEPT = 0.1, 0.75  # of a step; the share of a velocity that is left after it
_PUSH, _CONTACT, _SOFT = 5.0, 100.0, 1e-3  # forces of an action and of a contact, and how gradually that one sets in
_APART = 0.3  # centres of two agents that touch
_DIRECTIONS = ((0.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0))


class Spread:
    """``num_envs`` agents, a multiple of three: see `rlopt.envs.tensor.protocol.SavedEnvs`."""

    def __init__(self, num_envs: int, device: torch.device, dtype: torch.dtype):
        if num_envs % AGENTS:
            raise ValueError(f"simple_spread has {AGENTS} agents a game; env.num_envs={num_envs} is no multiple of it")
        self.num_envs, self.device, self._dtype = num_envs, device, dtype
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (18,), np.float32)
        self.action_space = gym.spaces.Discrete(5)
        self._directions = torch.tensor(_DIRECTIONS, device=device, dtype=dtype)
        self._others = torch.tensor([[j for j in range(AGENTS) if j != i] for i in range(AGENTS)], device=device)

    def reset(self, seed: int, first: int = 0) -> Tensor:
        self._noise = Noise(seed, first // AGENTS, self.num_envs // AGENTS, self.device)
        self._episode = self._step = 0
        self._begin()
        return self._observe()

    def step(self, actions: Tensor) -> Stepped:
        force = _PUSH * self._directions[actions].view(-1, AGENTS, 2) + self._contacts()
        self.at = self.at + _SECONDS * self.speed
        self.speed = _KEPT * self.speed + _SECONDS * force
        reward, last = self._reward(), self._observe()
        self._step += 1
        over = self._step == STEPS  # all games begin together, and last as long
        if over:
            self._episode, self._step = self._episode + 1, 0
            self._begin()
        ended = torch.full((self.num_envs,), over, device=self.device)
        return Stepped(self._observe() if over else last, reward, torch.zeros_like(ended), ended, last)

    def state(self) -> Mapping[str, Tensor]:
        parts = {"at": self.at, "speed": self.speed, "marks": self.marks}
        counts = torch.tensor([self._episode, self._step], device=self.device).expand(self.num_envs, 2)
        return {**{name: x.flatten(0, 1) for name, x in parts.items()}, "counts": counts}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.at, self.speed, self.marks = (
            state[name].to(self.at).view_as(self.at).clone() for name in ("at", "speed", "marks")
        )
        self._episode, self._step = state["counts"][0].tolist()

    def close(self) -> None:
        pass

    def _begin(self) -> None:
        drawn = self._noise.draw("uniform", self._episode, 1, 4 * AGENTS, self._dtype)[0]
        self.at, self.marks = (2 * drawn - 1).view(-1, 2, AGENTS, 2).unbind(1)
        self.speed = torch.zeros_like(self.at)

    def _apart(self) -> tuple[Tensor, Tensor]:
        """From agent j to agent i [G, i, j, 2], and how far that is [G, i, j]: infinitely from itself."""
        way = self.at[:, :, None] - self.at[:, None]
        far = way.norm(dim=-1)
        return way, far + torch.diag(far.new_full((AGENTS,), torch.inf))

    def _contacts(self) -> Tensor:
        """The forces (G, A, 2) with which agents that touch push each other away."""
        way, far = self._apart()
        depth = _SOFT * torch.logaddexp(torch.zeros_like(far), (_APART - far) / _SOFT)
        return (_CONTACT * way * (depth / far)[..., None]).sum(2)

    def _reward(self) -> Tensor:
        """Half of how far the landmarks are from the nearest agents, and half of the agent's collisions."""
        nearest = (self.marks[:, :, None] - self.at[:, None]).norm(dim=-1).min(2).values.sum(1)
        collisions = (self._apart()[1] < _APART).sum(2)
        return (-0.5 * nearest[:, None] - 0.5 * collisions).flatten()

    def _observe(self) -> Tensor:
        """Its speed and place, the ways to the landmarks and the other agents, and four numbers that stay 0."""
        marks = self.marks[:, None] - self.at[:, :, None]
        others = self.at[:, self._others] - self.at[:, :, None]
        parts = (self.speed, self.at, marks.flatten(2), others.flatten(2), torch.zeros_like(others).flatten(2))
        return torch.cat(parts, 2).flatten(0, 1)


gym.register("SpreadTensors-v0", vector_entry_point=Spread)
