"""Timer: the clocks of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Timer:
    """Two clocks of a run. ``training`` leaves out start-up and evaluations, and counts up to the last `lap`.

    ``wall`` counts everything from `start` on.
    """

    def __init__(self) -> None:
        self.training = self._before = 0.0
        self.start()

    def restore(self, training: float, wall: float) -> None:
        """Continue from what earlier processes of the run have spent."""
        self.training, self._before = training, wall

    def start(self) -> None:
        self._start = self._since = time.perf_counter()

    def lap(self) -> float:
        """Bring ``training`` up to date, and return it."""
        now = time.perf_counter()
        self.training += now - self._since
        self._since = now
        return self.training

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Within, time does not count as training."""
        begin = time.perf_counter()
        yield
        self._since += time.perf_counter() - begin

    @property
    def wall(self) -> float:
        return self._before + time.perf_counter() - self._start
