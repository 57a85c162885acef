"""One run of a sweep. Its folder decides what is done:

    config.yaml is absent                         the run is trained
    config.yaml is there                          it is continued where it stopped, as by `rlopt resume`
    config.yaml and summary.json are there        it is finished, and skipped
    config.yaml has another configuration         error: the sweep needs another folder

Two sweeps never train the same run: a process locks SWEEP_DIR/.sweep/RUN.lock before it looks at the run's folder.

A launcher of Hydra's may start worker processes. Their stderr goes to SWEEP_DIR/.sweep/RUN.log. No run is lost when the
sweep ends: after a signal the sweep ends its workers on the same host, which the lock files name, and waits until they
have saved; if the sweep was killed, its workers notice it, save and end.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from pathlib import Path
from urllib.parse import quote

from rlopt.checkpoint.resume_rules import config_differences
from rlopt.cli.exit_codes import exit_code
from rlopt.cli.resume import run as resume
from rlopt.config.compose import compose
from rlopt.config.extensions import extended
from rlopt.config.overrides import to_overrides
from rlopt.config.saved import load_run
from rlopt.errors import Signalled, UserError
from rlopt.files import shown
from rlopt.files.reading import read_json
from rlopt.loggers import console
from rlopt.parallel.processes import leave_cores_to_others
from rlopt.training.continuing import saved_result
from rlopt.training.run_directory import trained_elsewhere, try_lock

_LONGEST_NAME = 150  # characters of a folder's name
_IN_NAMES = "=[]{} " if sys.platform == "win32" else "=[]{}: "  # characters that it may have besides letters and digits
_SAVE_TIMEOUT = 60.0  # seconds in which a worker should have saved its run
_LOCK_INTERVAL = 0.05  # seconds between two looks at the lock files
_PARENT_INTERVAL = 0.25  # seconds between two looks at the parent process

_sweep_process: int | None = None  # the parent of this process, if that is the sweep
_signal_received: int | None = None  # the signal that ended a run in this process


class RunFailed(Exception):
    """The run ``name`` in a worker process ended with ``code``, an exit code other than 0."""

    def __init__(self, name: str, code: int):
        super().__init__(name, code)
        self.name, self.code = name, code


class Sweep:
    """The runs of a sweep. Launchers pickle it and send it to their workers.

    ``train`` trains one run, given its overrides, and returns the exit code. ``folder`` contains the runs.
    ``varied`` are the names of the options that differ between runs.
    """

    def __init__(
        self,
        train: Callable[[list[str]], int],
        folder: Path,
        varied: Sequence[str],
        extensions: Sequence[str | Path],
        modules: Sequence[str],
    ):
        self._train, self._folder, self._varied = train, folder, varied
        self._extensions, self._modules, self._main_process = extensions, modules, _this_process()

    def run(self, overrides: list[str]) -> int:
        """Do what is left to do of the run with these overrides; return its exit code.

        Raises Signalled where a signal ended it, and in a worker process RunFailed in place of another code than 0.
        """
        if self._in_worker():
            watch_sweep(*self._main_process)
            leave_cores_to_others()
        try:
            with extended(self._extensions, self._modules):
                code = exit_code(lambda: self._run_locked(overrides))
        except Exception as error:
            if not self._in_worker():
                raise
            traceback.print_exc()
            raise RunFailed(self.name(overrides), 1) from error
        if code > 128:
            if self._in_worker():
                remember_signal(code - 128)
            raise _reported(Signalled(code - 128))
        if code and self._in_worker():
            raise RunFailed(self.name(overrides), code)
        return code

    def score(self, overrides: list[str]) -> float:
        """The evaluation return of a run that is done, else its last training return; NaN where it has neither."""
        try:
            summary = read_json(self._folder / self.name(overrides) / "summary.json")
            scores = (summary.get(name) for name in ("evaluation_return", "return_mean"))
            return float(next((score for score in scores if score is not None), math.nan))
        except (OSError, ValueError, TypeError, AttributeError):
            return math.nan

    def is_left_unbegun(self, overrides: list[str]) -> bool:
        """Whether the run's folder has no configuration, and no other process is about to write it."""
        name = self.name(overrides)
        with run_lock(self._folder / ".sweep" / f"{name}.lock", self._main_process[1]) as locked:
            return locked and not (self._folder / name / "config.yaml").is_file()

    def _run_locked(self, overrides: list[str]) -> int:
        name = self.name(overrides)
        run_dir = self._folder / name
        title = f"--- {' '.join(overrides)}"
        overrides = [*overrides, *to_overrides({"run_dir": run_dir})]
        files = self._folder / ".sweep"
        try:
            files.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"sweep_dir={shown(self._folder)} cannot be written: {error}") from error
        with run_lock(files / f"{name}.lock", self._main_process[1]) as locked:
            if not locked:
                raise trained_elsewhere(run_dir)
            begun = (run_dir / "config.yaml").is_file()
            if begun:
                _check_same(overrides, run_dir)
            if begun and saved_result(run_dir):
                console.output(f"{title}: done before")
                return 0
            console.output(title)
            with (files / f"{name}.log").open("a") if self._in_worker() else nullcontext(sys.stderr) as log:
                with redirect_stderr(log):
                    return resume([str(run_dir)]) if begun else self._train(overrides)

    def _in_worker(self) -> bool:
        """True in another process than the one that began the sweep."""
        return _this_process() != self._main_process

    def name(self, overrides: list[str]) -> str:
        """Name of a run's folder: its values of the varied options."""
        values = dict(override.split("=", 1) for override in overrides)
        parts = [quote(f"{key}={values[key]}", safe=_IN_NAMES) for key in self._varied if key in values]
        name = ",".join(parts) or "run"
        if len(name) <= _LONGEST_NAME:
            return name
        return f"{name[:_LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _reported(signalled: Signalled) -> Signalled:
    """The same, which the run has told the user already."""
    signalled.reported = True
    return signalled


def _this_process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _check_same(overrides: list[str], run_dir: Path) -> None:
    """Raise UserError if the run in ``run_dir`` has another configuration than these overrides give."""
    for key, here, there in config_differences(compose(overrides), load_run(run_dir)):
        found = (key, here, there) == ("env.mask", "auto", "info")  # as the run recorded it
        if key != "run_dir" and not found:  # the folder may have been moved
            name = shown(run_dir)
            raise UserError(f"{name} holds another run: there {key} is {there}, now {here}; give another sweep_dir")


@contextmanager
def run_lock(path: Path, sweep: int) -> Iterator[bool]:
    """Lock ``path`` for this process; yield False if another process has. The system unlocks it when the process ends.

    ``sweep`` is the process id of the sweep. It is written to the file with this process's host and id.
    """
    with path.open("a+") as file:
        locked = try_lock(file.fileno())
        if locked:
            file.truncate(0)
            print(*_this_process(), sweep, file=file, flush=True)
        yield locked


def end_workers(locks: Path) -> None:
    """Send SIGTERM to the workers of this process's sweep on this host, and wait until they have saved."""
    deadline = time.monotonic() + _SAVE_TIMEOUT
    signalled: set[int] = set()
    while (workers := _workers(locks)) and time.monotonic() < deadline:
        for process in workers - signalled:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        signalled |= workers
        time.sleep(_LOCK_INTERVAL)


def _workers(locks: Path) -> set[int]:
    """Other processes of this host that hold a lock in this folder for this process's sweep."""
    found = set()
    for path in locks.glob("*.lock"):
        with suppress(OSError, ValueError), path.open() as file:
            if not try_lock(file.fileno()):
                node, process, sweep = file.read().split()
                if (node, int(sweep)) == _this_process():
                    found.add(int(process))
    return found - {os.getpid()}


def watch_sweep(node: str, sweep: int) -> None:
    """In a worker, before a run: if the sweep is the parent process, end this process when the sweep ends.

    Raises Signalled if a signal has ended a run in this process before.
    """
    global _sweep_process
    if _signal_received is not None:
        raise Signalled(_signal_received)
    if _sweep_process is None and (node, sweep) == (platform.node(), os.getppid()):
        _sweep_process = sweep
        threading.Thread(target=_end_with_sweep, daemon=True).start()


def remember_signal(number: int) -> None:
    """In a worker, after a signal has ended a run: let no other run begin here."""
    global _signal_received
    _signal_received = number
    if _sweep_ended():
        os._exit(128 + number)


def _sweep_ended() -> bool:
    return _sweep_process is not None and os.getppid() != _sweep_process


def _end_with_sweep() -> None:
    while not _sweep_ended():
        time.sleep(_PARENT_INTERVAL)
    os.kill(os.getpid(), signal.SIGTERM)  # a run saves; between two runs the process ends
