"""Clock: the seconds that a run has spent, over all the times it was taken up again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """``training`` up to the last `lap`: what is recorded and saved counts, evaluations do not. ``wall``: all."""

    def __init__(self) -> None:
        self.training = self._before = 0.0
        self.start()

    def restore(self, training: float, wall: float) -> None:
        """Go on from a run that had spent these."""
        self.training, self._before = training, wall

    def start(self) -> None:
        self._start = self._since = time.perf_counter()

    def lap(self) -> float:
        """``training`` as it is now."""
        now = time.perf_counter()
        self.training += now - self._since
        self._since = now
        return self.training

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done within is no training."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    @property
    def wall(self) -> float:
        return self._before + time.perf_counter() - self._start
