"""What lets one text of a formula serve torch's tensors and numpy's arrays.

On arrays of a few hundred numbers an operator of numpy takes a fifth of the time of torch's, of which most goes into
calling it. So the heads and objectives that minibatches meet take both in `values_and_gradient` and what it calls; in
their annotations Tensor then stands for either. Those that do say so by ``takes_arrays = True``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

# the largest that numpy's library computes in one thread on every machine, so that the bits are the same
_ONE_THREAD = 8192  # numbers of a vector's product
_ONE_THREAD_MATRIX = 2**18  # multiplications of a matrix product


def library(x: Any) -> Any:
    """torch or numpy, whichever ``x`` is of; exp, log, minimum, where, concatenate bear one name in both."""
    return torch if isinstance(x, torch.Tensor) else np


def takes_arrays(part: object) -> bool:
    """True for a head or an objective whose values and gradients are as good for arrays as for tensors."""
    return getattr(part, "takes_arrays", False)


def squared_length(x: torch.Tensor) -> torch.Tensor | float:
    """x^T x of a vector (P,), a number where it is on the host."""
    if not x.is_cpu:
        return torch.dot(x, x)
    array = x.numpy()
    if len(array) <= _ONE_THREAD:
        return float(np.dot(array, array))
    parts = (array[i : i + _ONE_THREAD] for i in range(0, len(array), _ONE_THREAD))
    return float(sum(np.dot(part, part) for part in parts))


def multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """a (M, N) times b (N, K), in one thread: by as many rows of ``a`` at a time as that takes."""
    rows = max(1, _ONE_THREAD_MATRIX // b.size)
    if len(a) <= rows:
        product: np.ndarray = np.matmul(a, b, out=out)
        return product
    out = np.empty((len(a), b.shape[1]), a.dtype) if out is None else out
    for start in range(0, len(a), rows):
        np.matmul(a[start : start + rows], b, out=out[start : start + rows])
    return out


def add_one_(x: torch.Tensor) -> torch.Tensor:
    """x + 1, in place."""
    if not x.is_cpu:
        return x.add_(1)
    array = x.numpy()
    array += 1
    return x
