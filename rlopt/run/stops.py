"""Stops: SIGINT, SIGTERM and SIGUSR1 end a run so that it can be resumed.

Alone, the first signal interrupts what is going on: an update that has not ended is dropped, and the position before it
is saved. Of several ranks each remembers it until they all stop after the same update. While files are written a signal
waits. A second Ctrl-C leaves at once, with the last checkpoint as it is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlopt.core.distributed import ranks as world
from rlopt.errors import Signalled

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
_AGAIN = 0.5  # seconds after which another Ctrl-C is meant: launchers pass one on that the process has had already


class Stops:
    """What a run was told from outside; ``number`` is the signal's, None where there was none."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0
        self._held = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, the signals are for this run. Does nothing outside of the main thread, which alone can hear them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, a signal is remembered and nothing more; `check` is for afterwards."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def check(self, number: int | None = None) -> None:
        """Raise what was remembered here, or ``number``, on which the ranks have agreed."""
        number = number or (self.number if world() == 1 else None)
        if number is not None:
            raise Signalled(number)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            if number == signal.SIGINT and time.monotonic() - self._since > _AGAIN:
                os.write(sys.stderr.fileno() if hasattr(sys.stderr, "fileno") else 2, b"\nrlopt: left at once\n")
                os._exit(128 + number)
            return
        self.number, self._since = number, time.monotonic()
        if not self._held and world() == 1:
            raise Signalled(number)
