"""Policy: from observations as an environment returns them to actions as it takes them, in numpy."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor

from rlopt.envs.spaces import ActionTransform, PolicyHead, observation_dtype, observation_size
from rlopt.policy.inference import FrozenPolicy


class Policy:
    """One observation -> one action, or N stacked observations -> N actions; their shape tells which.

    It normalises observations, squashes actions and keeps them within their bounds. ``observation_space`` and
    ``action_space`` are the environment's own. N observations of a Dict or a Tuple are a Dict or a Tuple of arrays, as
    in Gymnasium's vector environments.

    A policy with memory is to see the observations of an episode one after another, each once, and `reset` is to be
    called where an episode begins. ``state`` (N, M) is its memory; None before the first observation and without one.
    """

    def __init__(self, frozen: FrozenPolicy, head: PolicyHead, observation_space: gym.Space, action_space: gym.Space):
        self.frozen, self.head = frozen, head
        is_box = isinstance(observation_space, spaces.Box)
        self.flat = observation_space if is_box else spaces.flatten_space(observation_space)  # a Box
        self.observation_space, self.action_space = observation_space, action_space
        self.state: Tensor | None = None
        self._transform = ActionTransform(action_space, getattr(head, "squash", False))

    def __call__(self, observation: Any) -> np.ndarray:
        """The most probable action of each observation."""
        z, single = self._outputs(observation)
        return self._actions(self.head.mode(z), single)

    def reset(self, ended: Any = None) -> None:
        """Forget what was seen, of all episodes, or of those that ``ended`` (N,), true or false, names."""
        if ended is None:
            self.state = None
        elif self.state is not None:
            self.state[torch.as_tensor(np.asarray(ended, bool))] = 0

    def sample(self, observation: Any, generator: np.random.Generator) -> np.ndarray:
        """An action for each observation, drawn with ``generator``, which alone decides the draw."""
        z, single = self._outputs(observation)
        draw = generator.standard_normal if self.head.noise == "normal" else generator.random
        noise = torch.from_numpy(draw((len(z), self.head.noise_size))).to(z.dtype)
        return self._actions(self.head.sample(z, noise), single)

    def outputs(self, observation: Any) -> np.ndarray:
        """Parameters of the distribution, z (O,) or (N, O): logits, or means and then scales; see core.heads."""
        z, single = self._outputs(observation)
        return z[0].numpy() if single else z.numpy()

    def rows(self, observation: Any) -> tuple[Tensor, bool]:
        """Flat observations (N, D), not yet normalised, and True if there was a single one. Raises ValueError."""
        leaf_space, leaf = self.observation_space, observation
        while isinstance(leaf_space, spaces.Dict | spaces.Tuple):
            key = next(iter(leaf_space.keys())) if isinstance(leaf_space, spaces.Dict) else 0
            leaf_space, leaf = leaf_space[key], leaf[key]  # type: ignore[index]
        shape, given = leaf_space.shape or (), np.shape(leaf)
        if given[-len(shape) or len(given) :] != shape or len(given) - len(shape) not in (0, 1):
            raise ValueError(f"an observation has shape {shape}, and N of them have {('N', *shape)}; got {given}")
        single = len(given) == len(shape)
        count, size = 1 if single else len(leaf), observation_size(self.flat)
        if isinstance(self.observation_space, spaces.Box):
            flat = np.asarray(observation).reshape(count, size)
        else:
            each = [observation] if single else iterate(batch_space(self.observation_space, count), observation)
            flat = np.array([spaces.flatten(self.observation_space, one) for one in each]).reshape(count, size)
        return torch.as_tensor(flat, dtype=observation_dtype(self.flat, self.frozen.theta.dtype)), single

    def _outputs(self, observation: Any) -> tuple[Tensor, bool]:
        raw, single = self.rows(observation)
        if size := self.frozen.memory_size:
            if self.state is None:
                self.state = self.frozen.theta.new_zeros(len(raw), size)
            if len(self.state) != len(raw):
                count = len(self.state)
                raise ValueError(f"the policy remembers {count} episodes, and {len(raw)} go on; call reset() before")
        return self.frozen.outputs(self.frozen.normalise(raw, torch.empty_like(raw)), self.state), single

    def _actions(self, actions: Tensor, single: bool) -> np.ndarray:
        taken = self._transform(actions)
        return taken[0] if single else taken
