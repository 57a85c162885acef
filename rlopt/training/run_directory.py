"""The folder of a run: how it is chosen, made, and kept for one process at a time.

The lock is on the folder itself (flock), so it leaves no file behind, and the system frees it when the process that
holds it ends. Processes forked from the holder do not keep it. Some file systems have no such locks (NFS has none for
folders); there a run goes on without one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rlopt.errors import UserError
from rlopt.files import shown
from rlopt.parallel import ranks

if TYPE_CHECKING:
    from rlopt.config.options import RunConfig

_UNFINISHED = re.compile(r"\.(config\.yaml|summary\.json|tracker\.json|scalars\.csv|nan_report\.json|error\.txt)\.\d+")
_locks: set[int] = set()  # descriptors of the folders that this process has locked


def choose_run_directory(config: RunConfig) -> Path:
    """The folder that the run will be written to: run_dir, or a new one under runs/, as an absolute path.

    An environment may change the working directory. Creates nothing. Raises UserError where run_dir cannot be used or
    holds more than what a run that was killed at its start has left.
    """
    if config.run_dir is not None:
        if not config.run_dir:
            raise UserError("run_dir= is empty; give a folder, such as run_dir=runs/NAME, or leave it out")
        try:
            chosen = Path(config.run_dir).expanduser().absolute()
            used = chosen.exists() and (not chosen.is_dir() or not all(map(_is_unfinished, os.listdir(chosen))))
        except (OSError, RuntimeError) as error:  # RuntimeError: ~NAME of an unknown user
            raise UserError(f"run_dir={config.run_dir} cannot be used: {getattr(error, 'strerror', error)}") from error
        if used:
            raise _in_use(chosen)
        return chosen
    stamp, env = time.strftime("%Y%m%d-%H%M%S"), config.env.name
    env = re.sub(r"[^\w.-]+", "-", env.rpartition(":")[2] if config.env.own else env)
    return unused_path(Path.cwd() / "runs" / f"{config.algo}-{env}-s{config.seed}-{stamp}")


def unused_path(base: Path) -> Path:
    """``base``, or ``base-2``, ``base-3``, ...: the first that does not exist."""
    path, count = base, 1
    while path.exists():
        count += 1
        path = base.with_name(f"{base.name}-{count}")
    return path


@contextmanager
def exclusive_run_directory(run_dir: Path, new: bool = False) -> Iterator[None]:
    """Lock ``run_dir`` for the block, so that no other process trains that run. Raises UserError where one does.

    For a ``new`` run the folder is created and must be empty; it is removed again if nothing is written to it. What a
    run that was killed has left unfinished is removed. A folder that cannot be opened is not locked: whoever writes to
    it later reports what is wrong.
    """
    created = [folder for folder in (run_dir, *run_dir.parents) if not folder.exists()]
    descriptor = ranks.on_all_ranks(lambda: _lock(run_dir, new) if ranks.is_first_rank() else None)
    if descriptor is not None:
        _locks.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _locks:
            _locks.remove(descriptor)
            os.close(descriptor)
        with suppress(OSError):  # raised by the first folder that is not empty: those above it stay as well
            for folder in created if ranks.is_first_rank() else ():
                folder.rmdir()


def try_lock(descriptor: int) -> bool:
    """Lock this open file or folder for the process; False where another process has the lock.

    True also where the system has no such locks.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


def trained_elsewhere(run_dir: Path) -> UserError:
    """The error that says that another process trains this run."""
    return UserError(f"{shown(run_dir)} is being trained by another process; it is left to that one")


def _in_use(run_dir: Path) -> UserError:
    return UserError(f"run_dir={shown(run_dir)} is in use; give another, or remove it first")


def _lock(run_dir: Path, new: bool) -> int | None:
    """An open descriptor of the locked folder; None where it cannot be opened."""
    try:
        if new:
            run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run_dir, os.O_RDONLY)
    except OSError:
        return None
    error = None
    if not try_lock(descriptor):
        error = trained_elsewhere(run_dir)
    elif new and not all(map(_is_unfinished, os.listdir(run_dir))):
        error = _in_use(run_dir)
    if error is not None:
        os.close(descriptor)
        raise error
    for name in filter(_is_unfinished, os.listdir(run_dir)):
        with suppress(OSError):
            (run_dir / name).unlink()
    return descriptor


def _is_unfinished(name: str) -> bool:
    """True for a file of a run that was killed while it wrote the file (`files.replace_file`)."""
    return _UNFINISHED.fullmatch(name) is not None


def _close_locks() -> None:
    """In a forked child: a lock lasts until every process has closed its copy of the descriptor."""
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)
