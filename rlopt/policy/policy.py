"""Policy: from observations as an environment returns them to actions as it takes them, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from torch import Tensor

from rlopt.envs.observations import describe_space, observation_dtype, observation_size
from rlopt.envs.spaces import PolicyHead, action_transform, has_mask_key, mask_counts
from rlopt.errors import UserError, in_one_line
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

    def __init__(
        self,
        frozen: FrozenPolicy,
        head: PolicyHead,
        observation_space: gym.Space,
        action_space: gym.Space,
        write: Callable[[str | Path], Path] | None = None,
    ):
        self.frozen, self.head = frozen.alone(), head
        self.observation_space, self.action_space = observation_space, action_space
        self.state: Tensor | None = None
        self._write = write  # of one that was loaded
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
        if self._write is None:
            raise UserError("only a policy that rlopt.load returned is saved; in a callback use moment.save()")
        return self._write(folder)

    def reset(self, ended: Any = None) -> None:
        """Forget what was seen, of all episodes, or of those that ``ended`` (N,), true or false, names."""
        if ended is None:
            self.state = None
        elif self.state is not None:
            which, count = np.atleast_1d(np.asarray(ended, bool)), len(self.state)
            if which.shape != (count,):
                raise ValueError(f"reset takes true or false for each of {count} episodes; got {which.shape} of them")
            self.state[torch.as_tensor(which)] = 0

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
            if action_mask is not None and isinstance(observation, Mapping):
                observation = {**observation, "action_mask": action_mask}
            observation = pick(self.observation_space, observation)
            observation, action_mask = observation["observation"], observation["action_mask"]
        raw, single = self._flat_observations(observation)
        if not self.frozen.network.masked:
            if action_mask is not None:
                raise ValueError("this policy learned without action masks and takes none")
            return raw, single
        if action_mask is None:
            raise ValueError("this policy learned with action masks: policy(observation, action_mask=...)")
        mask = self._flat_masks(action_mask, len(raw), single)
        return torch.cat([raw, torch.as_tensor(mask, dtype=raw.dtype)], 1), single

    def _flat_masks(self, mask: Any, count: int, single: bool) -> np.ndarray:
        """Masks of ``count`` observations as (count, M); those of a MultiDiscrete may be a tuple, one array a category.

        Raises ValueError where one is no mask, or allows nothing.
        """
        width, parts = self.frozen.width, mask if isinstance(mask, tuple) else (mask,)
        try:
            flat = np.concatenate([np.reshape(part, (count, -1)) for part in parts], 1)
        except ValueError:  # which cannot be shared out over the observations
            flat = np.empty((0, 0))
        if flat.shape != (count, width):
            wanted = f"({width},)" if single else f"({count}, {width}) for {count} observations"
            raise ValueError(f"an action mask has the shape {wanted}; got {_shapes(mask)}")
        wrong = flat[(flat != 0) & (flat != 1)]
        if len(wrong):
            raise ValueError(f"an action mask has 0 and 1 alone; got {wrong[0]}")
        counts = mask_counts(self.action_space) or (width,)
        allowed = np.logical_or.reduceat(flat == 1, np.cumsum(counts, dtype=np.int64) - np.array(counts), axis=1)
        if not allowed.all():
            row, category = np.argwhere(~allowed)[0].tolist()
            which = f" of category {category}" if len(counts) > 1 else ""
            where = "" if single else f" for observation {row}"
            raise ValueError(f"an action mask must allow an action{which}; got one that allows none{where}")
        return flat

    def _flat_observations(self, observation: Any) -> tuple[Tensor, bool]:
        try:
            return self._flattened(observation)
        except (IndexError, KeyError, TypeError) as error:
            wanted, came = describe_space(self._observed), type(observation).__name__
            raise ValueError(f"an observation is of {wanted}; got {came}: {in_one_line(error)}") from error

    def _flattened(self, observation: Any) -> tuple[Tensor, bool]:
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
            found = [spaces.flatten(space, one) for one in each]
            if wrong := [len(one) for one in found if len(one) != size]:
                raise TypeError(f"{wrong[0]} numbers in place of {size}")
            flat = np.array(found).reshape(count, size)
        return torch.as_tensor(flat, dtype=observation_dtype(self.flat, self.frozen.theta.dtype)), single

    def _outputs(self, observation: Any, action_mask: Any) -> tuple[Tensor, bool]:
        raw, single = self.rows(observation, action_mask)
        if raw.is_floating_point() and raw.isnan().any():
            raise ValueError(
                f"an observation has a number that is none (NaN): {np.array2string(raw.numpy(), threshold=8)}"
            )
        if size := self.frozen.memory_size:
            if self.state is None:
                self.state = self.frozen.theta.new_zeros(len(raw), size)
            if len(self.state) != len(raw):
                count = len(self.state)
                raise ValueError(f"the policy remembers {count} episodes, and {len(raw)} go on; call reset() before")
        return self.frozen.outputs(self.frozen.normalise(raw, torch.empty_like(raw)), self.state), single

    def _actions(self, actions: Tensor, single: bool) -> Any:
        return self._transform(actions)[0] if single else self._transform.stacked(actions)


def _shapes(given: Any) -> Any:
    """The shape of an array, or those of a tuple's."""
    try:
        return tuple(map(np.shape, given)) if isinstance(given, tuple) else np.shape(given)
    except ValueError:
        return "rows of several lengths"
