"""Messages to the terminal. A terminal that is gone, or a full disk behind it, does not stop the work."""

from __future__ import annotations

import codecs
import re
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line breaks
_LARGE = 1e6
_STREAM_ERRORS = (OSError, ValueError)  # it cannot be written, is closed, or cannot encode these letters


def show_every_name() -> None:
    """From now on stdout and stderr show what they can, and the rest as escapes; file names as the system has them.

    Where the locale has no letters beyond ASCII, Python reads the bytes of a file name as lone surrogates. These go out
    as the bytes that they stand for.
    """
    codecs.register_error("rlopt", _as_bytes_or_escapes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="rlopt")


def _as_bytes_or_escapes(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    name = error.object[error.start : error.end]
    first = re.match("[\udc80-\udcff]+|[^\udc80-\udcff]+", name)
    assert first
    if "\udc80" <= first[0][0] <= "\udcff":
        return first[0].encode("ascii", "surrogateescape"), error.start + first.end()
    return first[0].encode("ascii", "backslashreplace").decode(), error.start + first.end()


def printable(text: str) -> str:
    """The text with control characters as escapes: a name may come from somebody else's file."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def short(value: float) -> str:
    """A number of a result: one decimal, or four significant digits where it is large."""
    return f"{value:.1f}" if abs(value) < _LARGE or value != value else f"{value:.3e}"


def info(text: str) -> None:
    """Print to stderr, if that is possible."""
    _print(text, sys.stderr)


def output(text: str) -> None:
    """Print a result that is already saved to stdout, if that is possible."""
    _print(text, sys.stdout)


def _print(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        with suppress(*_STREAM_ERRORS):
            print(printable(text), file=stream, flush=True)


def terminal() -> Console:
    """Rich's console on stderr."""
    from rich.console import Console

    stream = cast("IO[str]", TolerantStream(sys.stderr)) if sys.stderr is not None else None
    return Console(file=stream, stderr=True, highlight=False)


class TolerantStream:
    """A stream for libraries that print by themselves. After its first error it is silent."""

    def __init__(self, stream: IO[str]):
        self._stream = stream
        self._failed = False

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, name: str, *arguments: str) -> None:
        if not self._failed:
            try:
                getattr(self._stream, name)(*arguments)
            except _STREAM_ERRORS:
                self._failed = True

    def __getattr__(self, name: str) -> Any:  # isatty, encoding, fileno
        return getattr(self._stream, name)
