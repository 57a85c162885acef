"""macOS and Windows, as far as Linux can show them: what they lack is taken away, and rlopt is imported and trains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHORT = ["total_steps=120", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]

# Takes away what Python has on Linux alone, or on Unix alone. What torch and others imported before keep theirs.
WITHOUT = """
import importlib, multiprocessing, os, pkgutil, signal, sys, threading
import ctypes, subprocess, tempfile, shutil, pty, selectors, socket, asyncio, logging, platform
import torch, torch.distributed, torch.export, gymnasium, hydra, tensorboard.compat.proto.event_pb2, mmap
import matplotlib.figure, scipy.stats, rich.progress
sys.modules["fcntl"] = sys.modules["resource"] = sys.modules["termios"] = sys.modules["pwd"] = None
platform.uname()
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGSTOP", "setitimer", "alarm"):
    delattr(signal, name)
opened = os.open
def refuse_folders(path, *rest, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", os.fspath(path))
    return opened(path, *rest, **named)
os.open = refuse_folders
lacking = {names}
for name in lacking:
    if hasattr(os, name):
        delattr(os, name)
"""
MACOS = ("sched_getaffinity", "sched_setaffinity")
WINDOWS = (
    *MACOS, "fork", "forkpty", "register_at_fork", "uname", "getuid", "geteuid", "getpgid", "setsid", "killpg", "mkfifo",
    "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "waitstatus_to_exitcode", "getloadavg", "nice", "fchmod", "setpgid",
)  # fmt: skip


def python(system: str, code: str, folder: Path) -> subprocess.CompletedProcess:
    names = WINDOWS if system == "win32" else MACOS
    start = (
        WITHOUT if system == "win32" else WITHOUT[: WITHOUT.index("sys.modules")] + WITHOUT[WITHOUT.index("lacking") :]
    )
    text = start.replace("{names}", repr(names)) + f"sys.platform = {system!r}\n" + code
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", text], cwd=folder, env=environ, capture_output=True, text=True)


SYSTEMS = [pytest.param("darwin", marks=pytest.mark.learning), "win32"]  # Windows lacks all that macOS does, and more


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_module_is_imported_without_what_a_system_lacks(tmp_path, system):
    code = """
import rlopt
names = [m.name for m in pkgutil.walk_packages(rlopt.__path__, "rlopt.") if not m.name.endswith("__main__")]
absent = []
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        absent.append((name, error.name))
from rlopt.parallel.processes import START_METHOD
print(len(names), START_METHOD, absent)
"""
    done = python(system, code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    count, method, absent = done.stdout.split(maxsplit=2)
    assert int(count) > 250 and method == "spawn"
    extras = {"optuna", "ray"}  # of modules that are imported when they are chosen
    assert {name for _, name in eval(absent)} <= extras, absent  # noqa: S307  # what the code above printed


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_without_what_a_system_lacks_ends_and_goes_on(tmp_path, system):
    code = f"""
from rlopt.cli.main import main
codes = [main(["train", "run_dir=run", "checkpoint.every_updates=1", *{SHORT}]), main(["resume", "run", "total_steps=160"])]
codes.append(main(["train", "-m", "seed=0,1", "sweep_dir=two", *{SHORT}]))
print(codes)
"""
    done = python(system, code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "[0, 0, 0]", done.stderr[-2000:]
    assert len(list(tmp_path.glob("two/*/summary.json"))) == 2
