"""Messages to the terminal. A terminal that is gone, or a full disk behind it, does not stop the work."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console

_STREAM_ERRORS = (OSError, ValueError)  # it cannot be written, is closed, or cannot encode these letters


def info(text: str) -> None:
    """Print to stderr, if that is possible."""
    _print(text, sys.stderr)


def output(text: str) -> None:
    """Print a result that is already saved to stdout, if that is possible."""
    _print(text, sys.stdout)


def _print(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        with suppress(*_STREAM_ERRORS):
            print(text, file=stream, flush=True)


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
