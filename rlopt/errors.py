"""The ways a run ends early, each with its exit code, and errors in one line."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path


class UserError(Exception):
    """The user's mistake: says what was wanted, what came and what to type instead. Exit code 2."""

    on_all_ranks = False  # True where every rank of the run raises this error

    def _render_traceback_(self, *_: object) -> list[str]:
        """What IPython, and so a notebook, shows in place of the frames within rlopt."""
        return [f"{type(self).__name__}: {self}"]


class EnvironmentFault(UserError):
    """An environment raised while it was stepped or reset."""


class Stopped(Exception):
    """The failure policy ended the run: too many updates in a row were not finite. Exit code 3."""


class Signalled(KeyboardInterrupt):
    """A signal asked the run to end. Exit code 128 + its number."""

    def __init__(self, number: int):
        super().__init__(number)  # which pickle gives it again
        self.number = number
        self.reported = False  # True where the user has been told of it


class RankLost(Exception):
    """Another rank of this run has ended or does not answer. Exit code 1."""


def needs_extra(what: str, extra: str) -> str:
    """``what`` it is that needs an extra of pyproject.toml, and the commands that install it.

    The first works wherever rlopt is installed, from a clone too: pip takes the rlopt-geometry that is there.
    """
    return f"{what}: pip install 'rlopt-geometry[{extra}]', or scripts/bootstrap {extra} for a clone's .venv"


def where_raised(error: BaseException) -> str:
    """` (FILE, line N)`: where an error arose, within code that is in no library if it went through any."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    own = [f for f in frames if not f.filename.startswith((*libraries, "<", str(Path(__file__).parent)))] or frames
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has no message."""
    lines = _message(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """An error's message without its line breaks."""
    return " ".join(_message(error).split())


def _message(error: BaseException) -> str:
    """An error's message, which any terminal can show; the class of an error takes its place if that cannot be had."""
    try:
        return str(error).encode("utf-8", "backslashreplace").decode()
    except Exception:  # noqa: BLE001  # an error's own __str__ may raise anything
        return f"(its text cannot be shown; {type(error).__name__})"
