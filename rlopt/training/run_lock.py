"""A lock on a run's folder, so that no two processes train one run. The system frees it when its holder ends.

It is on the folder itself (flock), and so leaves no file behind. Processes that are forked from its holder do not keep
it. Where a file system has no such locks, as NFS for folders, the run goes on without one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlopt.errors import UserError
from rlopt.parallel import ranks

_held: set[int] = set()  # descriptors


@contextmanager
def alone(run_dir: Path, new: bool = False) -> Iterator[None]:
    """Within, this process and its ranks alone train the run. Raises UserError where another does already.

    For a ``new`` run the folder is made, and must still be empty; it goes again if nothing is written into it. Whoever
    writes into it says what is wrong with it.
    """
    absent = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    descriptor = ranks.agreed(lambda: _locked(run_dir, new) if ranks.leads() else None)
    if descriptor is not None:
        _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:
            _held.remove(descriptor)
            os.close(descriptor)
        with suppress(OSError):  # the first that is not empty ends it
            for folder in absent if ranks.leads() else ():
                folder.rmdir()


def taken(descriptor: int) -> bool:
    """Whether the lock on this file is another's; if not, it is from now on held here, where there are locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        pass
    return False


def held_elsewhere(run_dir: Path) -> UserError:
    return UserError(f"{run_dir} is being trained by another process, to which it is left")


def _let_go() -> None:
    """In a process that was forked: what it does not close stays locked until it ends."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _locked(run_dir: Path, new: bool) -> int | None:
    try:
        if new:
            run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run_dir, os.O_RDONLY)
    except OSError:
        return None
    error = None
    if taken(descriptor):
        error = held_elsewhere(run_dir)
    elif new and os.listdir(run_dir):
        error = UserError(f"run_dir={run_dir} is in use; give another, or remove it first")
    if error is not None:
        os.close(descriptor)
        raise error
    return descriptor
