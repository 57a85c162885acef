"""Two threads as two ranks, for tests of sums over samples without processes."""

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rlopt.core.samples import Samples
from tests.support.oracles import Case


class Ranks:
    """Two threads as two ranks: all_sum adds up what each brings."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=5)
        self.brought: dict[str, Tensor] = {}

    def all_sum(self, x: Tensor) -> Tensor:
        self.brought[threading.current_thread().name] = x.clone()
        self.barrier.wait()
        total = self.brought["0"] + self.brought["1"]
        self.barrier.wait()
        return x.copy_(total)

    def all_sums(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(self.all_sum, tensors))

    def run(self, f: Callable[[int], Any]) -> list[Any]:
        """f(0) and f(1), each in the thread of its rank."""
        results: dict[int, Any] = {}

        def one(i: int) -> None:
            with torch.no_grad():
                results[i] = f(i)

        threads = [threading.Thread(target=one, args=(i,), name=str(i)) for i in range(2)]
        [t.start() for t in threads], [t.join() for t in threads]
        return [results[0], results[1]]


def halves(case: Case) -> list[Samples]:
    """The samples of each of two ranks, unequally many, which know the weight of both."""
    slices = [slice(0, 4), slice(4, None)]
    parts = [case.samples.take(place) for place in slices]
    for part, place in zip(parts, slices, strict=True):
        vars(part)["share"] = case.samples.share[place]
    return parts
