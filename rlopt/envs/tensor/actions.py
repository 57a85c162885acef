"""What `rlopt.envs.spaces.ActionTransform` does, for tensors: policy actions as an environment's step takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rlopt.envs.observations import describe_space
from rlopt.envs.spaces import first_values, is_discretised, scale_and_shift
from rlopt.errors import UserError


def tensor_transform(space: gym.Space[Any], squash: bool, like: Tensor) -> Callable[[Tensor], Tensor]:
    """The function from policy actions (E, ...) to those of the environment, on the device of ``like``.

    A Box's are scaled, squashed or clipped, in the type of ``like``. Raises UserError for actions of Dict and Tuple.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        raise UserError(f"env.backend=tensor serves no actions of {describe_space(space)}; type env.backend=sync")
    shape: tuple[int, ...] = space.shape or ()
    if not isinstance(space, spaces.Box) or is_discretised(space):
        first, dtype = first_values(space), getattr(torch, str(space.dtype))
        if isinstance(space, spaces.Discrete) and not first:
            return lambda a: a
        start = torch.as_tensor(first).to(like.device)
        return lambda a: (a.long().reshape(len(a), *shape) + start).to(dtype)
    scale, shift = (torch.as_tensor(x).to(like) for x in scale_and_shift(space))
    low, high = (torch.as_tensor(x).reshape(-1).to(like) for x in (space.low, space.high))
    bounded = bool(np.isfinite([space.low, space.high]).all())

    def transform(a: Tensor) -> Tensor:
        a = torch.addcmul(shift, a.tanh() if squash else a, scale)
        a = torch.fmin(torch.fmax(a, low), high)  # of a number and NaN both take the number
        if not bounded:
            a = torch.where(a.isfinite(), a, 0.0)
        return a.reshape(len(a), *shape)

    return transform
