"""Drawing: what `sample` of a head gives, in numpy for the heads in common use.

In the loop between a simulator's steps an operator of numpy costs a fraction of torch's; see inference.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rlopt.core.heads import Categorical, DiagonalGaussian, Head

Draw = Callable[[np.ndarray, np.ndarray], np.ndarray]  # z (B, O), noise (B, noise_size) -> actions (B, ...)


def drawing(head: Head) -> Draw:
    """Actions of this head, drawn with its kind of noise."""
    make: Callable[[Any], Draw] = _DRAWINGS.get(type(head), _general)
    return make(head)


def _gaussian(head: DiagonalGaussian) -> Draw:
    size, logarithmic = head.size, head.scale == "log_sigma"

    def draw(z: np.ndarray, noise: np.ndarray) -> np.ndarray:
        scale = z[:, size:]
        return z[:, :size] + (np.exp(scale) if logarithmic else scale) * noise

    return draw


def _categorical(head: Categorical) -> Draw:
    last = head.count - 1

    def draw(z: np.ndarray, noise: np.ndarray) -> np.ndarray:
        below = np.exp(z - z.max(1, keepdims=True)).cumsum(1)
        return np.minimum((below <= noise * below[:, -1:]).sum(1), last)

    return draw


def _general(head: Head) -> Draw:
    return lambda z, noise: head.sample(torch.from_numpy(z), torch.from_numpy(noise)).numpy()


_DRAWINGS: dict[type, Callable[[Any], Draw]] = {DiagonalGaussian: _gaussian, Categorical: _categorical}
