"""Memory: the bytes of tensors that a piece of torch code makes, at the moment when most of them are alive.

Storages are counted, so a view or a result written in place adds nothing. Memory that a library needs within one
operation (LAPACK's workspace) is not seen.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class NewTensors(TorchDispatchMode):
    """Counts the bytes of tensors that are made within: ``with NewTensors() as memory: ...``, then ``memory.peak``."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._bytes = 0
        self._alive: set[int] = set()  # addresses of the new storages

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage.data_ptr() for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            if storage.nbytes() and storage.data_ptr() not in given | self._alive:
                self._add(storage)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        self._alive.add(address)
        self._bytes += size
        self.peak = max(self.peak, self._bytes)
        weakref.finalize(storage, self._remove, address, size).atexit = False

    def _remove(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self._bytes -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    """The storages of all tensors in nested tuples, lists and dictionaries."""
    return [x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor)]
