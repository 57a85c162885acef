"""Checkpoints: a tree of tensors and plain values in three files. Loading can run no code.

    checkpoints/step-000000102400/tensors.safetensors    every tensor, under its path in the tree
    checkpoints/step-000000102400/state.json             the tree, with a tensor's path where the tensor was
    checkpoints/step-000000102400/manifest.json          format, step, score; size and SHA-256 of the two and of itself

What stands under a checkpoint's name is whole: it was written under another name, synchronised with the disk and
renamed. One of the same step is replaced by way of a second name, step-000000102400.1, so that one of the two is there
at every moment. A loader takes the newest that is whole, and refuses whatever is not as it was written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rlopt.checkpoint import tree as trees
from rlopt.errors import UserError

FORMAT = 2
STATE, TENSORS, MANIFEST = "state.json", "tensors.safetensors", "manifest.json"
_NAME = re.compile(r"step-(\d{12,15})(?:\.(\d{1,3}))?")
_LARGEST_MANIFEST = 2**16  # bytes


def save(directory: Path, step: int, tree: dict[str, Any], keep: int, score: float | None = None) -> Path:
    """Write ``tree`` as the checkpoint of ``step`` under ``directory``, which is created in a folder that exists.

    Then the newest ``keep`` stay, and the one with the highest score; of a course that went beyond this step before it
    was taken up again, nothing stays. Raises OSError where it cannot be written; what was there is then still there.
    """
    state, tensors = trees.packed(tree)
    contents = {STATE: state, TENSORS: tensors}
    if directory.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a link", str(directory))
    if not directory.exists():
        directory.mkdir()
        synchronise(directory.parent)
    for left in directory.glob(".step-*"):  # by a save that failed or was killed
        shutil.rmtree(left, ignore_errors=True)
    unfinished = directory / f".step-{step:012d}.{os.getpid()}"
    unfinished.mkdir()
    for name, content in {**contents, MANIFEST: _manifest(step, score, contents)}.items():
        _write(unfinished / name, content)
    synchronise(unfinished)
    place = _free(directory, step)
    unfinished.rename(place)
    synchronise(directory)
    return _settled(place, keep)


def list_checkpoints(directory: Path) -> list[Path]:
    """Checkpoints under ``directory``, oldest first, where there is one. Raises UserError where it cannot be read.

    A link, out of the run's folder, is not followed.
    """
    if directory.is_symlink():
        raise UserError(f"{directory} is a link; put the folder that it leads to in its place")
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"the checkpoints in {directory} cannot be read: {error.strerror}") from error
    found = sorted((int(m[1]), int(m[2] or 0), m[0]) for name in names if (m := _NAME.fullmatch(name)))
    return [directory / name for _, _, name in found]


def step_of(place: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(place.name)
    return int(match[1]) if match else -1


def best(directory: Path) -> Path | None:
    """The checkpoint with the highest score, the newest of equals; None where none has one."""
    scores = {place: score(place) for place in list_checkpoints(directory)}
    scored = [(value, step_of(place), place) for place, value in scores.items() if value is not None]
    return max(scored)[2] if scored else None


def score(place: Path) -> float | None:
    """What was measured of this checkpoint's policy; None where nothing finite was, or it cannot be read."""
    try:
        found = _read_manifest(place)["score"]
    except (UserError, OSError):
        return None
    return found if isinstance(found, int | float) and math.isfinite(found) else None


def load(place: Path, device: torch.device | None = None) -> dict[str, Any]:
    """The tree saved at ``place``; tensors that were not on the CPU come to ``device`` (the CPU by default)."""
    return unpack(read(place), place, device)


def load_newest(
    run_dir: Path, device: torch.device | None = None, tell: Callable[[str], object] = lambda said: None
) -> tuple[int, dict[str, Any]]:
    """(step, tree) of the newest checkpoint of a run that is whole; ``tell`` hears of newer ones that are not."""
    place, contents = newest(run_dir, tell)
    return step_of(place), unpack(contents, place, device)


def load_best(run_dir: Path) -> tuple[int, dict[str, Any]]:
    """(step, tree) of the checkpoint with the highest score."""
    place = best(run_dir / "checkpoints")
    if place is None:
        raise UserError(f"no checkpoint in {run_dir} has a score; leave out --best to take the newest")
    return step_of(place), load(place)


def newest(run_dir: Path, tell: Callable[[str], object] = lambda said: None) -> tuple[Path, dict[str, bytes]]:
    """The newest checkpoint of a run that is whole, and what `read` gives for it."""
    found = list_checkpoints(run_dir / "checkpoints") or list_checkpoints(run_dir / "checkpoints")
    if not found:
        raise UserError(f"{run_dir} holds no checkpoint; give the folder of a run, as `rlopt train` printed it")
    refused: list[UserError] = []
    for place in reversed(found):
        try:
            contents = read(place)
            unpack(contents, place)
        except UserError as error:
            if not place.exists():  # by now: a run that is going on has put a newer one in its place
                return newest(run_dir, tell)
            refused.append(error)
            continue
        for said in refused:
            tell(f"{said}; step {step_of(place):,} is taken in its place")
        return place, contents
    raise refused[0]


def read(place: Path) -> dict[str, bytes]:
    """The contents of a checkpoint's two files, as they were written. Raises UserError where they are not."""
    with _whole(place):
        if not _NAME.fullmatch(place.name) or place.is_symlink() or not place.is_dir():
            raise ValueError("it is no folder of that name")
        manifest = _read_manifest(place)
        names = {entry.name for entry in os.scandir(place)}
        if odd := sorted(names - {STATE, TENSORS, MANIFEST}):
            raise ValueError(f"it holds {odd[0]}, which is none of its files")
        return {name: _read_checked(place / name, manifest["files"][name]) for name in (STATE, TENSORS)}


def unpack(contents: dict[str, bytes], place: Path, device: torch.device | None = None) -> dict[str, Any]:
    """The tree that the two files hold; ``place`` is where they are from."""
    with _whole(place):
        return trees.unpacked(contents[STATE], contents[TENSORS], device or torch.device("cpu"))


@contextmanager
def _whole(place: Path) -> Iterator[None]:
    """Whatever is wrong with the files is one message for the user."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise UserError(f"{place} is not a whole checkpoint: {type(error).__name__}: {said}") from error


def replace_file(path: Path, content: str | bytes) -> None:
    """``path`` with this content: before and after a crash it is whole, with the old content or the new.

    A link is replaced, not followed.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        _write(unfinished, content.encode() if isinstance(content, str) else content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _manifest(step: int, score: float | None, contents: dict[str, bytes]) -> bytes:
    files = {name: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for name, c in contents.items()}
    manifest = {"format": FORMAT, "step": step, "score": score, "files": files}
    return json.dumps({**manifest, "sha256": _digest(manifest)}, indent=1).encode()


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _read_manifest(place: Path) -> dict[str, Any]:
    """The manifest at ``place``, held against its own sum."""
    path = place / MANIFEST
    try:
        manifest = json.loads(_read(path, _LARGEST_MANIFEST))
        if manifest["format"] != FORMAT:
            raise UserError(f"{place} has checkpoint format {manifest['format']}; this rlopt reads format {FORMAT}")
        written = manifest.pop("sha256")
        whole = written == _digest(manifest) and manifest["step"] == step_of(place)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        said = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({type(error).__name__})"
        raise UserError(f"{place} is not a whole checkpoint: {MANIFEST} {said}") from error
    if not whole:
        raise UserError(f"{place} is not a whole checkpoint: {MANIFEST} is not as it was written")
    found: dict[str, Any] = manifest
    return found


def _read_checked(path: Path, wanted: dict[str, Any]) -> bytes:
    content = _read(path, wanted["bytes"])
    if len(content) != wanted["bytes"] or hashlib.sha256(content).hexdigest() != wanted["sha256"]:
        raise ValueError(f"{path.name} is not as it was written")
    return content


def _read(path: Path, largest: int) -> bytes:
    """All of a regular file of at most ``largest`` bytes."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with open(os.open(path, flags), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{path.name} is no regular file")
        if about.st_size > largest:
            raise ValueError(f"{path.name} is larger than it was written")
        return file.read(largest)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _free(directory: Path, step: int) -> Path:
    """A name for a checkpoint of ``step`` that is newer than those there are."""
    names = [place.name for place in list_checkpoints(directory) if step_of(place) == step]
    count = int(names[-1].partition(".")[2] or 0) + 1 if names else 0
    return directory / (f"step-{step:012d}.{count}" if count else f"step-{step:012d}")


def _settled(place: Path, keep: int) -> Path:
    """The checkpoint at ``place`` under its proper name, those removed that it makes superfluous."""
    directory, step = place.parent, step_of(place)
    others = [other for other in list_checkpoints(directory) if other != place]
    for other in others:
        if step_of(other) >= step:
            _remove(other)
    proper = directory / f"step-{step:012d}"
    if place != proper:
        place.rename(proper)
    there = list_checkpoints(directory)
    for other in there[:-keep]:
        if other != best(directory):
            _remove(other)
    synchronise(directory)
    return proper


def _remove(place: Path) -> None:
    """At once, by its name; what a crash leaves of it is no checkpoint."""
    doomed = place.with_name(f".{place.name}.removed")
    place.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
