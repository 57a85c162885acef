"""Worker processes: how one starts, how it ends with the learner that started it, and how the learner ends it.

Signals of a terminal, such as Ctrl-C, reach the learner and its workers alike. Only the learner reacts: it asks its
workers to end, and kills those that have not after a while.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rlopt.errors import UserError

if TYPE_CHECKING:  # a launcher's workers watch their parent before they import anything large
    import torch
    from torch import Tensor

# fork starts at once and knows all that this process knows; elsewhere than on Linux it is not safe, or not there
START_METHOD = "fork" if sys.platform == "linux" else "spawn"
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 2**30  # bytes: larger blocks still go back to the system at once
_PARENT_INTERVAL = 0.25  # seconds between two looks at the parent process
_others_have_cores = False
_PATIENCE = 2.0  # seconds that all workers together have to close their environments before they are killed


def shared_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that this process shares with those that it forks, or to which it sends the tensor.

    For those that it forks this is anonymous memory, without a file that could outlive them.
    """
    import torch

    if START_METHOD != "fork":
        return torch.zeros(shape, dtype=dtype).share_memory_()
    empty = torch.empty(shape, dtype=dtype, device="meta")
    memory = mmap.mmap(-1, max(empty.numel() * empty.element_size(), 1))
    return torch.frombuffer(memory, dtype=dtype, count=empty.numel()).view(shape)


def own_cores() -> int:
    """The cores that this process may use: of those that the system gives it, its share among the ranks of this host.

    1 after `leave_cores_to_others`.
    """
    if _others_have_cores:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def leave_cores_to_others() -> None:
    """Make `own_cores` say 1 from now on, in a process beside which others train."""
    global _others_have_cores
    _others_have_cores = True


def use_one_thread() -> None:
    """Make torch compute in one thread: small networks are slower with more."""
    import torch

    torch.set_num_threads(1)


def start_learner() -> None:
    """Set up this process to train: it uses one thread, and glibc keeps large blocks that are freed.

    Mapping and clearing them anew took an eighth to a sixth of an update on images. Another C library is left as it is.
    """
    use_one_thread()
    with suppress(OSError, AttributeError, TypeError):
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            ctypes.CDLL(None).mallopt(option, _KEPT)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """How float32 matrix products round within: torch's highest, high or medium."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def try_in_child(call: Callable[[], object]) -> str | None:
    """Call this in a child process; what is wrong in words, None where nothing is that can be told beforehand.

    Where processes are not forked, it is called here.
    """
    if START_METHOD != "fork":
        try:
            call()
        except UserError as error:
            return str(error)
        return None
    sys.stdout.flush()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _call_and_exit(call, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if said or not code:
        return said or None
    return f"its environment ended the process that made it, with {_describe_code(code)}"


def _call_and_exit(call: Callable[[], object], write: int) -> NoReturn:
    """In a child: call this, send the message of a UserError, and end. Another error is told where it matters."""
    try:
        sys.stdout = sys.stderr = nowhere = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
        for stream in (1, 2):  # of compiled code
            os.dup2(nowhere.fileno(), stream)
        call()
    except UserError as error:
        os.write(write, str(error).encode(errors="replace"))
    except Exception:
        pass
    except BaseException:
        os._exit(1)
    os._exit(0)


def end_with_parent() -> None:
    """From now on this process gets SIGTERM when its parent ends: a run then saves and ends."""
    threading.Thread(target=_wait_for_parents_end, args=(os.getppid(),), daemon=True).start()


@contextmanager
def ending_children() -> Iterator[None]:
    """Within, all child processes get SIGTERM if this process is killed, also those that have hardly begun.

    Does nothing where the system does not list processes under /proc.
    """
    parent = os.getpid()
    if not hasattr(os, "fork") or not Path(f"/proc/{parent}/task").is_dir():
        yield
        return
    sys.stdout.flush()
    watcher = os.fork()
    if not watcher:
        _end_orphans(parent)
    try:
        yield
    finally:
        os.kill(watcher, signal.SIGKILL)
        os.waitpid(watcher, 0)


def _end_orphans(parent: int) -> NoReturn:
    """In a child: wait until the parent has ended, then send SIGTERM to its other children."""
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):  # which a terminal or a launcher sends to all
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        children: list[int] = []
        while os.getppid() == parent:
            children = _children_of(parent) or children  # this process is one of them
            time.sleep(_PARENT_INTERVAL)
        for child in children:
            if child != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGTERM)
    finally:
        os._exit(0)


def _children_of(process: int) -> list[int]:
    """The child processes of all threads of a process; none where it has ended, or the system does not list them."""
    found: list[int] = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += map(int, thread.read_text().split())
    return found


def _wait_for_parents_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)


def start_worker() -> None:
    """Set up this process as a worker: it ignores a terminal's signals, ends with its parent and uses one thread."""
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _die_with_parent()
    use_one_thread()


def end_workers(workers: Iterable[BaseProcess]) -> None:
    """Wait for workers that were asked to end; kill those that do not end in time."""
    deadline = time.monotonic() + _PATIENCE
    for worker in workers:
        if worker.is_alive():
            worker.join(max(deadline - time.monotonic(), 0))
        if worker.is_alive():
            worker.kill()
            worker.join()


def describe_exit(worker: BaseProcess) -> str:
    """How the process ended: with which signal, or which exit code."""
    worker.join()
    code = worker.exitcode or 0
    return f"ended with {_describe_code(code)}"


def _describe_code(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _die_with_parent() -> None:
    """Let Linux kill this process when its parent ends, even where compiled code keeps other threads from running."""
    if sys.platform != "linux":
        return
    parent = multiprocessing.parent_process()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and not parent.is_alive():  # it ended before this call
        os._exit(1)


def _exit_with_parent() -> None:
    """End this process as soon as its parent has ended, unless compiled code keeps other threads from running."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
