"""Recorded: a function of tensors as one CUDA graph, whose kernels are launched together from the third call on.

A graph holds kernels and the addresses they read and write, and no Python. So what differs between calls is copied to
the same places before the kernels run, and what Python does within the function is done at the first two calls alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
# a function without arguments -> what it returned, and how its kernels are run again
Record = Callable[[Callable[[], Result]], tuple[Result, Callable[[], None]]]


def cuda_graph(function: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
    """`Record` by CUDA. Nothing is computed yet: the tensors returned are filled by the first replay."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function()
    return found, graph.replay


class Recorded:
    """``function`` of tensors -> tensors, which must not wait for the device nor keep what it is given.

    What it returns is overwritten by the next call, and may be given to it.
    """

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], record: Record[tuple[Tensor, ...]] = cuda_graph):
        self._function, self._record = function, record
        self._given: Sequence[Tensor] = ()
        self._found: tuple[Tensor, ...] = ()
        self._replay: Callable[[], None] | None = None

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        if not self._given:  # the first call: libraries set up what a graph must not hold
            self._given = [x.clone() for x in given]
            return self._function(*self._given)
        for kept, x in zip(self._given, given, strict=True):
            kept.copy_(x)
        if self._replay is None:
            self._found, self._replay = self._record(lambda: self._function(*self._given))
        self._replay()
        return self._found
