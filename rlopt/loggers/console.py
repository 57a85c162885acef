"""Telling: what is printed beside the work. A terminal that is gone, or a full disk behind it, is no reason to stop."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console

UNHEARD = (OSError, ValueError)  # of a stream: it cannot be written, or is closed, or cannot hold these letters


def info(text: str) -> None:
    """Print to stderr, if that can be."""
    _print(text, sys.stderr)


def output(text: str) -> None:
    """Print what was asked for to stdout, if that can be: of work that is done and saved."""
    _print(text, sys.stdout)


def _print(text: str, stream: IO[str] | None) -> None:
    if stream is not None:
        with suppress(*UNHEARD):
            print(text, file=stream, flush=True)


def terminal() -> Console:
    """Rich's console on stderr."""
    from rich.console import Console

    lasting = cast("IO[str]", Lasting(sys.stderr)) if sys.stderr is not None else None
    return Console(file=lasting, stderr=True, highlight=False)


class Lasting:
    """A stream for libraries that print by themselves. The first time that it fails is the last that it is tried."""

    def __init__(self, stream: IO[str]):
        self._stream = stream
        self._lost = False

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, name: str, *arguments: str) -> None:
        if not self._lost:
            try:
                getattr(self._stream, name)(*arguments)
            except UNHEARD:
                self._lost = True

    def __getattr__(self, name: str) -> Any:  # isatty, encoding, fileno
        return getattr(self._stream, name)
