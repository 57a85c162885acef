"""A run's folder of checkpoints: which one is loaded, which ones stay, when the next is due, and a save that fails.

Checkpoints are kept under checkpoints/ in the run's folder, one file each (checkpoint/format.py). The newest few stay,
and the one with the highest score. A loader takes the newest that is whole.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlopt.checkpoint.format import FORMAT, file_name, load, read, read_score, step_of, unpack, write
from rlopt.config.groups import CheckpointOptions
from rlopt.errors import UserError
from rlopt.files import shown, synchronise
from rlopt.loggers import console

_OLD_NAME = re.compile(r"step-\d{12,15}(\.\d{1,3})?")  # a folder for each checkpoint: formats 1 and 2


class CheckpointManager:
    """Writes a run's checkpoints. A save that fails is a warning while the run goes on, and an error at its end.

    The moments at which checkpoints are written change nothing in the run itself.
    """

    def __init__(self, options: CheckpointOptions, run_dir: Path):
        self._options, self._run_dir = options, run_dir
        self._failure: OSError | None = None  # of the last save
        self._warned = False
        self._last = time.perf_counter()
        self.saved_step: int | None = None  # of the last checkpoint that was written, or that the run goes on from

    def is_due(self, updates: int) -> bool:
        """True if a checkpoint is to be written after this update."""
        every, seconds = self._options.every_updates, self._options.every_seconds
        by_count = every is not None and updates % every == 0
        return by_count or (seconds is not None and time.perf_counter() - self._last >= seconds)

    def save(self, step: int, tree: Mapping[str, Any], score: float | None) -> Path | None:
        """Write a checkpoint. Returns None where that failed; the checkpoints before it are then as they were."""
        path = None
        try:
            path = save(self._run_dir / "checkpoints", step, dict(tree), self._options.keep, score)
            self.saved_step, self._failure = step, None
        except OSError as error:
            self._failure = error
            if not self._warned:
                self._warned = True
                console.info(f"rlopt: {self._describe_failure()}. Training goes on and tries again")
        self._last = time.perf_counter()
        return path

    def describe_saved(self, step: int) -> str:
        """What is saved of a run that ended at ``step``, in words."""
        if self.saved_step == step:
            return f"the policy so far is saved in {shown(self._run_dir)}"
        return "nothing is saved" if self.saved_step is None else f"the last checkpoint is of step {self.saved_step:,}"

    def raise_if_unsaved(self) -> None:
        """Raise UserError if the last save failed."""
        if self._failure is not None:
            raise UserError(f"{self._describe_failure()}. What was trained since then is lost") from self._failure

    def _describe_failure(self) -> str:
        good = "there is none yet" if self.saved_step is None else f"the last good one is of step {self.saved_step:,}"
        return f"the checkpoint cannot be written to {shown(self._run_dir / 'checkpoints')} ({self._failure}); {good}"


def save(directory: Path, step: int, tree: dict[str, Any], keep: int, score: float | None = None) -> Path:
    """Write ``tree`` as the checkpoint of ``step`` into ``directory``, which is made if its parent exists.

    Then the newest ``keep`` stay, and the one with the highest score. Checkpoints beyond ``step`` are removed: the run
    was resumed before them. Raises OSError where it cannot be written; the old checkpoints are then still there.
    """
    if directory.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(directory))
    if not directory.exists():
        directory.mkdir()
        synchronise(directory.parent)
    for unfinished in directory.glob(".step-*"):  # left by a save that was killed
        with suppress(OSError):
            unfinished.unlink()
    path = directory / file_name(step)
    write(path, step, tree, score)
    _prune(directory, step, keep)
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in ``directory``, oldest first; none where it does not exist.

    Raises UserError where it cannot be read, is a link, or holds checkpoints of an earlier format.
    """
    if directory.is_symlink():
        raise UserError(f"{directory} is a link; put the folder that it leads to in its place")
    try:
        with os.scandir(directory) as entries:
            is_folder = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"the checkpoints in {directory} cannot be read: {error.strerror}") from error
    if old := sorted(name for name in is_folder if is_folder[name] and _OLD_NAME.fullmatch(name)):
        raise UserError(
            f"{directory / old[-1]} has an earlier checkpoint format; this rlopt reads format {FORMAT}: "
            "train the run anew"
        )
    paths = [directory / name for name in is_folder if not is_folder[name]]
    return sorted((path for path in paths if step_of(path) >= 0), key=step_of)


def best(directory: Path) -> Path | None:
    """The checkpoint with the highest score, the newest of equals; None where none has one."""
    scores = {path: read_score(path) for path in list_checkpoints(directory)}
    scored = [(value, step_of(path), path) for path, value in scores.items() if value is not None]
    return max(scored)[2] if scored else None


def newest(run_dir: Path, warn: Callable[[str], object] = lambda message: None) -> tuple[Path, bytes]:
    """The newest intact checkpoint of a run, and its bytes. ``warn`` gets a message for each damaged one after it."""
    # twice, as a run that goes on may have replaced its only one while the names were read
    paths = list_checkpoints(run_dir / "checkpoints") or list_checkpoints(run_dir / "checkpoints")
    if not paths:
        raise UserError(f"{run_dir} holds no checkpoint; give the folder of a run, as `rlopt train` printed it")
    refused: list[UserError] = []
    for path in reversed(paths):
        try:
            content = read(path)
            unpack(content, path)
        except UserError as error:
            if not os.path.lexists(path):  # a run that goes on has put a newer one in its place
                return newest(run_dir, warn)
            refused.append(error)
            continue
        for refusal in refused:
            warn(f"{refusal}; step {step_of(path):,} is taken in its place")
        return path, content
    raise refused[0]


def load_newest(run_dir: Path, warn: Callable[[str], object] = lambda message: None) -> tuple[int, dict[str, Any]]:
    """(step, tree) of the checkpoint that `newest` finds, on the CPU."""
    path, content = newest(run_dir, warn)
    return step_of(path), unpack(content, path)


def load_best(run_dir: Path) -> tuple[int, dict[str, Any]]:
    """(step, tree) of the checkpoint with the highest score."""
    path = best(run_dir / "checkpoints")
    if path is None:
        raise UserError(f"no checkpoint in {run_dir} has a score; leave out --best to take the newest")
    return step_of(path), load(path)


def _prune(directory: Path, step: int, keep: int) -> None:
    """Remove the checkpoints beyond ``step``, and those before it but for the newest ``keep`` and the best."""
    for path in list_checkpoints(directory):
        if step_of(path) > step:
            path.unlink()
    kept = best(directory)
    for path in list_checkpoints(directory)[:-keep]:
        if path != kept:
            path.unlink()
    synchronise(directory)
