"""Runs of a sweep in other processes, which one of Hydra's launchers started: nothing of them is lost at its end.

The sweep is told to end: it tells those of this host, and waits until each has saved. It was killed: its children find
that they are orphans, save and end. Who trains a run, and of which sweep, stands in the run's lock file.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlopt.errors import Signalled
from rlopt.training.run_directory import try_lock

_PATIENCE = 60.0  # seconds in which a run should have saved
_PAUSE = 0.05  # seconds between two looks at the locks
_WATCH = 1.0  # seconds between two looks at the parent

_parent: int | None = None  # of this process, if that is the sweep's
_told: int | None = None  # the signal that a run in this process has ended with


@contextmanager
def locked(path: Path, sweep: int) -> Iterator[bool]:
    """Whether this process alone holds ``path``, as long as it is within; the system frees it when the process ends.

    ``sweep`` is the number of the process whose sweep the run is of.
    """
    with path.open("a+") as file:
        mine = try_lock(file.fileno())
        if mine:
            file.truncate(0)
            print(os.uname().nodename, os.getpid(), sweep, file=file, flush=True)
        yield mine


def end_all(locks: Path) -> None:
    """Tell the processes of this one's sweep to save and end, and wait until they have."""
    deadline = time.monotonic() + _PATIENCE
    told: set[int] = set()
    while (there := _holders(locks)) and time.monotonic() < deadline:
        for process in there - told:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        told |= there
        time.sleep(_PAUSE)


def follow(node: str, sweep: int) -> None:
    """In another process than the sweep's, before a run: end as the sweep does, if it is the parent."""
    global _parent
    if _told is not None:
        raise Signalled(_told)
    if _parent is None and (node, sweep) == (os.uname().nodename, os.getppid()):
        _parent = sweep
        threading.Thread(target=_watch, daemon=True).start()


def ended(number: int) -> None:
    """A run in this process has ended with this signal: none begins here any more."""
    global _told
    _told = number
    if _orphaned():
        os._exit(128 + number)


def _orphaned() -> bool:
    return _parent is not None and os.getppid() != _parent


def _watch() -> None:
    while not _orphaned():
        time.sleep(_WATCH)
    os.kill(os.getpid(), signal.SIGTERM)  # a run saves; between two runs this is the end


def _holders(locks: Path) -> set[int]:
    """Other processes of this host that hold a lock in this folder for this one's sweep."""
    found = set()
    for path in locks.glob("*.lock"):
        with suppress(OSError, ValueError), path.open() as file:
            if not try_lock(file.fileno()):
                node, process, sweep = file.read().split()
                if (node, int(sweep)) == (os.uname().nodename, os.getpid()):
                    found.add(int(process))
    return found - {os.getpid()}
