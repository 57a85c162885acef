"""A watchdog over environments in this process: one that does not come back from a step is interrupted and named.

A timer's signal is looked at between two instructions of Python. So a simulator that waits, sleeps or loops in Python
is interrupted; one that is lost within a single call of compiled code is not, and needs workers=K or
env.backend=async, whose processes can be ended from here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlopt.errors import EnvironmentFault

_LOOKS = 4  # within a timeout; looks are counted, not seconds, so that a suspended run has not hung


@contextmanager
def watched(progress: Callable[[], object], timeout: float | None, described: Callable[[], str]) -> Iterator[None]:
    """Within, EnvironmentFault is raised once ``progress()`` has been the same for ``timeout`` seconds or more."""
    # signals are for the main thread, and unknown to Windows
    if timeout is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    seen, same = progress(), 0

    def look(number: int, frame: object) -> None:
        nonlocal seen, same
        now = progress()
        seen, same = now, same + 1 if now == seen else 0
        if same >= _LOOKS:
            raise EnvironmentFault(f"{described()} has not come back for env.timeout={timeout:g} seconds")

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, timeout / _LOOKS, timeout / _LOOKS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
