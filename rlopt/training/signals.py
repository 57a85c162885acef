"""Stops: SIGINT, SIGTERM, SIGUSR1 and SIGHUP (its terminal was closed) end a run so that it can be resumed.

Alone, the first signal interrupts what is going on: an update that has not ended is dropped, and the position before it
is saved. Of several ranks each remembers it until they all stop after the same update. While files are written a signal
waits. A second Ctrl-C leaves at once, with the last checkpoint as it is. Processes that are forked meanwhile hear
SIGTERM alone, which ends them: the others reach a whole group, and the run itself sees to its processes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from rlopt.errors import Signalled
from rlopt.parallel.collectives import world_size

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_listening = 0  # runs of this process that do
_forking = False  # this process is about to: what is raised within hooks around a fork is printed, and lost
_missed: int | None = None  # the signal that came meanwhile
_LATER = 0.01  # seconds after which it comes again
_AGAIN = 0.5  # seconds after which another Ctrl-C is meant: launchers pass one on that the process has had already


class SignalHandler:
    """What a run was told from outside; ``number`` is the signal's, None where there was none."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self._first = first  # called before the first signal interrupts what is going on
        self.number: int | None = None
        self._since = 0.0
        self._held = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, the signals are for this run. Does nothing outside of the main thread, which alone can hear them.

        SIGHUP stays ignored where it is, as by nohup.
        """
        global _listening
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        hears = [n for n in SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._heard) for number in hears}
        _listening += 1
        try:
            yield
        finally:
            _listening -= 1
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
        number = number or (self.number if world_size() == 1 else None)
        if number is not None:
            raise Signalled(number)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        global _missed
        if _forking:
            _missed = number
            return
        if self.number is not None:
            if number == signal.SIGINT and time.monotonic() - self._since > _AGAIN:
                with suppress(OSError, ValueError, AttributeError):
                    os.write(sys.stderr.fileno(), b"\nrlopt: left at once\n")
                os._exit(128 + number)
            return
        self.number, self._since = number, time.monotonic()
        if not self._held and world_size() == 1:
            self._first()
            raise Signalled(number)


def _before_fork() -> None:
    global _forking
    _forking = True


def _after_fork() -> None:
    global _forking, _missed
    _forking, missed, _missed = False, _missed, None
    if missed is not None:
        threading.Timer(_LATER, os.kill, (os.getpid(), missed)).start()


def _forked() -> None:
    """In a new process: the run's handlers are not for it."""
    global _forking, _missed
    _forking, _missed = False, None
    if _listening:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forked)
