"""Ctrl-C before a run has begun: one line and exit code 130, also while modules are imported. Imports nothing large.

An exception within an import can leave half a module, which may then be used, or abort compiled code. So a Ctrl-C
within an import ends the process at once: nothing has been written by then. Anywhere else it raises KeyboardInterrupt.
A run has a handler of its own (rlopt/training/signals.py).
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_IMPORT = "<frozen importlib._bootstrap>"  # the file of Python's own import
INTERRUPTED = "rlopt: interrupted"


def leave_imports_on_interrupt() -> None:
    """From now on a Ctrl-C is one line and exit code 130, also while modules are imported.

    Does nothing where Ctrl-C is ignored, as in a shell's background, or has a handler of somebody else.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def depth(frame: FrameType | None) -> int:
    """The number of frames from this one to the outermost."""
    count = 0
    while frame is not None:
        count, frame = count + 1, frame.f_back
    return count


def is_importing(frame: FrameType | None, outer: int = 0) -> bool:
    """True where this frame was reached from within an import, one that began within the ``outer`` outermost frames."""
    for _ in range(depth(frame) - outer):
        assert frame is not None
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not is_importing(frame):
        raise KeyboardInterrupt
    if os.environ.get("RANK", "0") == "0" and sys.stderr is not None:
        try:
            os.write(sys.stderr.fileno(), f"{INTERRUPTED}\n".encode())
        except (OSError, ValueError):  # it is closed
            pass
    os._exit(128 + number)
