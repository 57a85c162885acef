"""Policy: from observations as an environment returns them to actions as it takes them, in numpy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor

from rlopt.envs.observations import observation_dtype, observation_size
from rlopt.envs.spaces import PolicyHead, action_transform, has_mask_key
from rlopt.errors import UserError
from rlopt.policy.inference import FrozenPolicy
from rlopt.policy.parts import pick


class Policy:
    """One observation -> one action, or N stacked observations -> N actions; their shape tells which.

    It normalises observations, squashes actions and keeps them within their bounds. ``observation_space`` and
    ``action_space`` are the environment's own, the first with the keys alone that the policy sees; an observation may
    have others too. N observations of a Dict or a Tuple are a Dict or a Tuple of arrays, as
    in Gymnasium's vector environments, and so are N actions.

    A policy with memory is to see the observations of an episode one after another, each once, and `reset` is to be
    called where an episode begins. ``state`` (N, M) is its memory; None before the first observation and without one.
    """

    def __init__(self, frozen: FrozenPolicy, head: PolicyHead, observation_space: gym.Space, action_space: gym.Space):
        self.frozen, self.head = frozen.alone(), head
        self.observation_space, self.action_space = observation_space, action_space
        self.state: Tensor | None = None
        self.write: Callable[[str | Path], Path] | None = None  # of one that was loaded: what `save` does
        self._has_mask_key = has_mask_key(observation_space, action_space) and frozen.network.masked
        # of what the network sees, without a mask
        self._observed = observation_space["observation"] if self._has_mask_key else observation_space  # type: ignore[index]
        is_box = isinstance(self._observed, spaces.Box)
        self.flat = self._observed if is_box else spaces.flatten_space(self._observed)  # a Box
        self._transform = action_transform(action_space, getattr(head, "squash", False))

    def __call__(self, observation: Any, action_mask: Any = None) -> Any:
        """The most probable action of each observation.

        Where the policy learned with masks, the actions are those that ``action_mask`` (M,) or (N, M) allows; it may be
        left out where observations are of Dict({"observation", "action_mask"}).
        """
        z, single = self._outputs(observation, action_mask)
        return self._actions(self.head.mode(z), single)

    def act(self, observation: Any, action_mask: Any = None) -> Any:
        """The same by another name: what calling the policy returns."""
        return self(observation, action_mask)

    def save(self, folder: str | Path) -> Path:
        """Write a policy that `rlopt.load` returned to a new folder, which `rlopt.load` reads; the run stays behind.

        Raises UserError where the folder is there, or the policy is one that a callback was given.
        """
        if self.write is None:
            raise UserError("only a policy that rlopt.load returned is saved; in a callback use moment.save()")
        return self.write(folder)

    def reset(self, ended: Any = None) -> None:
        """Forget what was seen, of all episodes, or of those that ``ended`` (N,), true or false, names."""
        if ended is None:
            self.state = None
        elif self.state is not None:
            self.state[torch.as_tensor(np.asarray(ended, bool))] = 0

    def sample(self, observation: Any, generator: np.random.Generator, action_mask: Any = None) -> Any:
        """An action for each observation, drawn with ``generator``, which alone decides the draw."""
        z, single = self._outputs(observation, action_mask)
        draw = generator.standard_normal if self.head.noise == "normal" else generator.random
        noise = torch.from_numpy(draw((len(z), self.head.noise_size))).to(z.dtype)
        return self._actions(self.head.sample(z, noise), single)

    def outputs(self, observation: Any, action_mask: Any = None) -> np.ndarray:
        """Parameters of the distribution, z (O,) or (N, O): logits, or means and then scales; see core.heads."""
        z, single = self._outputs(observation, action_mask)
        return z[0].numpy() if single else z.numpy()

    def rows(self, observation: Any, action_mask: Any = None) -> tuple[Tensor, bool]:
        """Flat observations (N, D), not yet normalised, and True if there was a single one. Raises ValueError.

        Where the policy learned with masks, the mask (N, M) stands behind them.
        """
        if self._has_mask_key:
            if action_mask is None:
                action_mask = observation["action_mask"]
            observation = observation["observation"]
        raw, single = self._flat_observations(observation)
        if not self.frozen.network.masked:
            if action_mask is not None:
                raise ValueError("this policy learned without action masks and takes none")
            return raw, single
        if action_mask is None:
            raise ValueError("this policy learned with action masks: policy(observation, action_mask=...)")
        mask = _flat_masks(action_mask, len(raw))
        if mask.shape != (len(raw), self.frozen.width) or not ((mask == 0) | (mask == 1)).all():
            wanted = f"({self.frozen.width},), or (N, {self.frozen.width}) for N observations"
            raise ValueError(f"an action mask has 0 and 1 in the shape {wanted}; got {np.shape(action_mask)}")
        return torch.cat([raw, torch.as_tensor(mask, dtype=raw.dtype)], 1), single

    def _flat_observations(self, observation: Any) -> tuple[Tensor, bool]:
        space, observation = self._observed, pick(self._observed, observation)
        leaf_space, leaf = space, observation
        while isinstance(leaf_space, spaces.Dict | spaces.Tuple):
            key = next(iter(leaf_space.keys())) if isinstance(leaf_space, spaces.Dict) else 0
            leaf_space, leaf = leaf_space[key], leaf[key]  # type: ignore[index]
        shape, given = leaf_space.shape or (), np.shape(leaf)
        if given[-len(shape) or len(given) :] != shape or len(given) - len(shape) not in (0, 1):
            raise ValueError(f"an observation has shape {shape}, and N of them have {('N', *shape)}; got {given}")
        single = len(given) == len(shape)
        count, size = 1 if single else len(leaf), observation_size(self.flat)
        if isinstance(space, spaces.Box):
            flat = np.asarray(observation).reshape(count, size)
        else:
            each = [observation] if single else iterate(batch_space(space, count), observation)
            flat = np.array([spaces.flatten(space, one) for one in each]).reshape(count, size)
        if flat.dtype.kind == "f" and np.isnan(flat).any():
            raise ValueError(f"an observation has a number that is none (NaN): {np.array2string(flat, threshold=8)}")
        return torch.as_tensor(flat, dtype=observation_dtype(self.flat, self.frozen.theta.dtype)), single

    def _outputs(self, observation: Any, action_mask: Any) -> tuple[Tensor, bool]:
        raw, single = self.rows(observation, action_mask)
        if size := self.frozen.memory_size:
            if self.state is None:
                self.state = self.frozen.theta.new_zeros(len(raw), size)
            if len(self.state) != len(raw):
                count = len(self.state)
                raise ValueError(f"the policy remembers {count} episodes, and {len(raw)} go on; call reset() before")
        return self.frozen.outputs(self.frozen.normalise(raw, torch.empty_like(raw)), self.state), single

    def _actions(self, actions: Tensor, single: bool) -> Any:
        return self._transform(actions)[0] if single else self._transform.stacked(actions)


def _flat_masks(mask: Any, count: int) -> np.ndarray:
    """Masks of ``count`` observations as (count, M); those of a MultiDiscrete may be a tuple, an array a category."""
    if isinstance(mask, tuple):
        return np.concatenate([np.reshape(part, (count, -1)) for part in mask], 1)
    return np.reshape(mask, (count, -1))
