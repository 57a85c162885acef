"""Child processes that try something beforehand, and processes that end with their parent."""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from rlopt.errors import UserError
from rlopt.parallel import processes
from rlopt.parallel.processes import (
    end_with_parent,
    ending_children,
    leave_cores_to_others,
    matmul_precision,
    own_cores,
    start_learner,
    try_in_child,
)
from tests.support.launching import until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def refuse() -> None:
    print("not to be seen")
    raise UserError("it does not go: ü\udcff")


def break_down() -> None:
    raise RuntimeError("a defect is told where it matters")


@pytest.mark.parametrize(("call", "said"), [
    (lambda: None, None),
    (refuse, "it does not go: ü?"),
    (break_down, None),
    (lambda: os._exit(3), "its environment ended the process that made it, with exit code 3"),
    (lambda: sys.exit(4), "its environment ended the process that made it, with exit code 1"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "its environment ended the process that made it, with SIGKILL"),
])  # fmt: skip
def test_what_is_wrong_in_a_child_is_told(capfd, call, said):
    assert try_in_child(call) == said
    assert capfd.readouterr() == ("", "")


def test_where_nothing_can_fork_it_is_called_here(monkeypatch):
    monkeypatch.setattr(processes, "START_METHOD", "spawn")
    monkeypatch.delattr(os, "fork")
    assert try_in_child(lambda: None) is None
    assert try_in_child(refuse) == "it does not go: ü\udcff"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="reads the cores that the system allows")
def test_ranks_of_a_host_share_its_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(processes, "_others_have_cores", False)
    assert own_cores() == 6
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert own_cores() == 3
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert own_cores() == 1
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    leave_cores_to_others()
    assert own_cores() == 1


@pytest.mark.parametrize("killed", [True, False])
def test_children_of_a_killed_process_are_told_to_end(tmp_path, monkeypatch, killed):
    """Those too that do not look for their parent, and were begun by another thread; not those of one that ends well."""
    monkeypatch.setattr(processes, "_PARENT_INTERVAL", 0.01)
    ready, told = tmp_path / "ready", tmp_path / "told"

    def child() -> None:
        signal.signal(signal.SIGTERM, lambda *_: (told.touch(), os._exit(0)))
        ready.touch()
        time.sleep(2)
        os._exit(0)

    parent = os.fork()
    if not parent:
        with ending_children():
            threading.Thread(target=lambda: os.fork() or child(), daemon=True).start()
            until(ready.exists, 20)
            time.sleep(60 if killed else 0.2)
        os._exit(0)
    assert until(ready.exists, 20)
    time.sleep(0.1)
    if killed:
        os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(told.exists, 20 if killed else 0.5) == killed


def test_a_process_is_told_when_its_parent_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PARENT_INTERVAL", 0.01)
    ready, told = tmp_path / "ready", tmp_path / "told"

    def rank() -> None:
        signal.signal(signal.SIGTERM, lambda *_: (told.touch(), os._exit(0)))
        end_with_parent()
        ready.touch()
        time.sleep(60)

    parent = os.fork()
    if not parent:
        if not os.fork():
            rank()
        time.sleep(60)
    assert until(ready.exists, 20) and not told.exists()
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(told.exists, 20)


def test_products_are_rounded_within_alone():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
        1 // 0
    assert torch.get_float32_matmul_precision() == before == "highest"


_ALLOCATE = """
import resource, sys
import numpy as np
from rlopt.parallel.processes import start_learner, use_one_thread
(start_learner if sys.argv[1] == "learner" else use_one_thread)()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(8 * 2**20)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_a_learner_keeps_the_memory_of_large_arrays():
    """A block larger than what glibc keeps by itself is mapped once, where another process maps it every time."""
    found = {}
    for kind in ("learner", "other"):
        done = subprocess.run([sys.executable, "-c", _ALLOCATE, kind], capture_output=True, text=True, check=True)
        found[kind] = int(done.stdout)
    assert found["learner"] < 10 < found["other"]


@pytest.mark.parametrize("fault", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_as_it_is(monkeypatch, fault):
    asked: list[str | None] = []

    def load(name):
        asked.append(name)
        raise fault

    monkeypatch.setattr(ctypes, "CDLL", load)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        start_learner()
        assert (asked, torch.get_num_threads()) == ([None], 1)
    finally:
        torch.set_num_threads(before)
