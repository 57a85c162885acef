"""A watchdog for environments that run in this process: one that does not return from a call is interrupted.

A timer sends a signal, and Python handles signals between two of its instructions. So the watchdog stops a simulator
that waits, sleeps or loops in Python, but not one that is stuck inside a single call of compiled code. Such a simulator
needs workers=K: the learner can kill a worker process.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlopt.errors import EnvironmentFault

_CHECKS = 4  # per timeout; the watchdog counts checks, not seconds, so that a suspended run does not look stuck


@contextmanager
def watched(progress: Callable[[], object], timeout: float | None, describe: Callable[[], str]) -> Iterator[None]:
    """Raise EnvironmentFault inside the block once ``progress()`` has not changed for ``timeout`` seconds.

    ``describe()`` names the environment. Does nothing without a timeout, outside the main thread, which alone receives
    signals, and on Windows, which has no such signal.
    """
    if timeout is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return
    seen, unchanged = progress(), 0

    def check(number: int, frame: object) -> None:
        nonlocal seen, unchanged
        now = progress()
        seen, unchanged = now, unchanged + 1 if now == seen else 0
        if unchanged >= _CHECKS:
            raise EnvironmentFault(f"{describe()} has not come back for env.timeout={timeout:g} seconds")

    before = signal.signal(signal.SIGALRM, check)
    signal.setitimer(signal.ITIMER_REAL, timeout / _CHECKS, timeout / _CHECKS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
