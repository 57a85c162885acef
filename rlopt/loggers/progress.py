"""Progress of a run or of an inspection: a bar on a terminal or in a notebook, elsewhere a line every few seconds."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rlopt.loggers.console import short, terminal

_PLAIN_SECONDS = 5.0  # between plain lines


class ProgressDisplay:
    """Shows steps, steps per second, mean return, KL / nats and time left."""

    def __init__(self, total: int, console: Console | None = None):
        self._total = total
        self._console = console or terminal()
        self._last = -math.inf
        self._bar: Progress | None = None
        self._cell = _notebook() if console is None else None
        if self._console.is_terminal and not self._cell:
            self._bar = Progress(
                TextColumn("{task.completed:>9,.0f} / {task.total:,.0f} steps"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}"),
                console=self._console,
                transient=False,
            )
            self._task = self._bar.add_task("", total=total, text="")
            self._bar.start()

    def update(self, steps: int, seconds: float, episode_return: float | None, kl: float | None) -> None:
        """Show the run's progress; ``seconds`` have passed since its first step."""
        rate = steps / seconds if seconds > 0 else 0.0
        left = max(self._total - steps, 0) / rate if rate else 0.0
        shown = "-" if episode_return is None else short(episode_return)
        moved = "-" if kl is None else f"{kl:.4f}"
        text = f"{rate:,.0f} steps/s  return {shown}  KL {moved}  {_clock(left)} left"
        if self._bar:
            self._bar.update(self._task, completed=min(steps, self._total), text=text)
        elif self._cell:
            self._cell(f"{steps:,} / {self._total:,} steps", min(steps / self._total, 1.0), text)
        elif time.monotonic() - self._last > _PLAIN_SECONDS or steps >= self._total:
            self._last = time.monotonic()
            self._console.print(f"{steps:,} / {self._total:,} steps  {text}", soft_wrap=True)

    def close(self) -> None:
        if self._bar:
            self._bar.stop()


def _notebook() -> Callable[[str, float, str], None] | None:
    """What shows a bar in a notebook's cell, and moves it; None elsewhere."""
    kernel = sys.modules.get("ipykernel.zmqshell")
    if kernel is None or not kernel.ZMQInteractiveShell.initialized():
        return None
    from IPython.display import HTML, display  # type: ignore[import-not-found]

    handle = display(HTML(""), display_id=True)

    def show(before: str, share: float, after: str) -> None:
        bar = f'<progress value="{share:.4f}" max="1" style="width: 20em"></progress>'
        handle.update(HTML(f"<code>{before}</code> {bar} <code>{after}</code>"))

    return show


class PairsDisplay:
    """Shows how many pairs of metric and solver are inspected, and which is next. Without a terminal the first line
    comes after a few seconds, so that a short inspection prints none.
    """

    def __init__(self, total: int, console: Console | None = None, lines: bool = True):
        self._total, self._lines = total, lines  # lines: whether there are any without a terminal
        self._console = console or terminal()
        self._last = time.monotonic()
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = TextColumn("{task.completed:>3} / {task.total} pairs"), BarColumn(40)
            text = TextColumn("{task.fields[text]}")
            self._bar = Progress(*columns, text, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=total, text="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def update(self, done: int, text: str) -> None:
        """Show that ``done`` pairs are inspected, and what comes next."""
        if self._bar:
            self._bar.update(self._task, completed=done, text=text)
        elif self._lines and time.monotonic() - self._last > _PLAIN_SECONDS:
            self._last = time.monotonic()
            self._console.print(f"{done} / {self._total} pairs  {text}", soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
