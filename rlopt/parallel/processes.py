"""A child: a process that has environments of its own, and ends when the learner, whose child it is, does.

Ctrl-C and the like reach the whole group and are for the learner, who tells its children to end and waits for a while.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

_PATIENCE = 2.0  # seconds that children have, all together, for closing their environments before they are killed


def settle() -> None:
    """What a child does first."""
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_the_learner, daemon=True).start()


def end(children: Iterable[BaseProcess]) -> None:
    """Wait for their end, of which they have been told, and then bring it about."""
    deadline = time.monotonic() + _PATIENCE
    for child in children:
        if child.is_alive():
            child.join(max(deadline - time.monotonic(), 0))
        if child.is_alive():
            child.kill()
            child.join()


def fate(child: BaseProcess) -> str:
    """How it ended."""
    child.join()
    code = child.exitcode or 0
    return f"ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"


def _leave_with_the_learner() -> None:
    """End this process as soon as its parent has ended, however that came about.

    Whatever it is doing, but for compiled code that lets no other thread run.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def use_one_thread() -> None:
    """Small networks are slower on more than one thread."""
    import torch

    torch.set_num_threads(1)
