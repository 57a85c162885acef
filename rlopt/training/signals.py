"""Signals that end a run so that it can be resumed: SIGINT, SIGTERM, SIGUSR1, and SIGHUP (its terminal was closed).

In a single process the first signal interrupts what is going on: an unfinished update is dropped, and the state before
it is saved; an import is finished first. With several ranks each one only remembers the signal, until all of them stop
after the same update. A signal that arrives while files are written waits. A second Ctrl-C leaves at once, with the
last checkpoint as it is. Processes that are forked meanwhile obey SIGTERM alone: the other signals reach the whole
group, and the run itself ends its processes.
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
from rlopt.parallel.interrupts import depth, is_importing

_NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_installed = 0  # handlers of this process that are installed
_forking = False  # Python prints and drops what is raised within hooks around a fork
_missed: int | None = None  # the signal that arrived during a fork
_LATER = 0.01  # seconds after which a missed signal is sent again
_AGAIN = 0.5  # seconds; a Ctrl-C that comes sooner is the first one, passed on by a launcher


class SignalHandler:
    """Receives the signals of one run. ``received`` is the number of the first one; None before."""

    def __init__(self, before_interrupt: Callable[[], object] = lambda: None) -> None:
        self._before_interrupt = before_interrupt  # called just before `Signalled` is raised
        self.received: int | None = None
        self._since = 0.0
        self._depth = 0  # of the stack when the handlers were installed
        self._deferred = 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within, this object handles the signals. Does nothing outside of the main thread, which alone gets them.

        SIGHUP stays ignored where it is, as under nohup.
        """
        global _installed
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = [n for n in SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) is not signal.SIG_IGN]
        self._depth = depth(sys._getframe())
        before = {number: signal.signal(number, self._handle) for number in handled}
        _installed += 1
        try:
            yield
        finally:
            _installed -= 1
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a signal is remembered but interrupts nothing. Call `raise_received` afterwards."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def raise_received(self, number: int | None = None) -> None:
        """Raise Signalled if a signal was remembered. With several ranks: if they agreed on ``number``."""
        number = number or (self.received if world_size() == 1 else None)
        if number is not None:
            raise Signalled(number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        global _missed
        if _forking:
            _missed = number
            return
        interrupts = self.received is None and not self._deferred and world_size() == 1
        if interrupts and is_importing(frame, self._depth):  # half a module may be worse than none
            threading.Timer(_LATER, _send_again, (number,)).start()
            return
        if self.received is not None:
            if number == signal.SIGINT and time.monotonic() - self._since > _AGAIN:
                with suppress(OSError, ValueError, AttributeError):
                    os.write(sys.stderr.fileno(), b"\nrlopt: left at once\n")
                os._exit(128 + number)
            return
        self.received, self._since = number, time.monotonic()
        if interrupts:
            self._before_interrupt()
            raise Signalled(number)


def _send_again(number: int) -> None:
    """Send this process a signal. On Windows os.kill would end it."""
    if sys.platform == "win32":
        signal.raise_signal(number)
    else:
        os.kill(os.getpid(), number)


def _before_fork() -> None:
    global _forking
    _forking = True


def _after_fork_in_parent() -> None:
    global _forking, _missed
    _forking, missed, _missed = False, _missed, None
    if missed is not None:
        threading.Timer(_LATER, _send_again, (missed,)).start()


def _after_fork_in_child() -> None:
    """The run's handlers are not for a new process."""
    global _forking, _missed
    _forking, _missed = False, None
    if _installed:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
