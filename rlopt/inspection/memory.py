"""Memory: the bytes of tensors that a piece of torch code makes, at the moment when most of them are alive.

Counts storages, so a view or a result written in place adds nothing; what a library needs within one operation
(LAPACK's workspace) is not seen.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NewTensors(TorchDispatchMode):
    """``with NewTensors() as memory: ...``, then ``memory.peak`` bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._bytes = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(x)._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and _storage(x)._cdata not in given | self._alive:
                self._add(_storage(x))
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._alive.add(key)
        self._bytes += size
        self.peak = max(self.peak, self._bytes)
        weakref.finalize(storage, self._remove, key, size).atexit = False

    def _remove(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._bytes -= size


def _storage(x: Tensor) -> torch.UntypedStorage:
    return x.untyped_storage()
