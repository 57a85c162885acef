"""Event file: TensorBoard's records, one after the other, in a file that is read after all that are there.

TensorBoard reads a folder's event files in the order of their names, which begin with a time in seconds, and what a
resumed run purges is what was read before. Writers elsewhere take the clock's word for it; two files of one second, or
a clock that was set back, would then bring back the points that had been purged.
"""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_NAME = re.compile(r"events\.out\.tfevents\.(\d{10})\.")


class EventFile:
    """Appends to a new file in ``folder``, each record handed to the system before the next. Raises OSError."""

    def __init__(self, folder: Path, purge_from: int | None = None):
        """Points of earlier files at step ``purge_from`` and beyond are hidden."""
        folder.mkdir(parents=True, exist_ok=True)
        there = [int(found[1]) for path in folder.iterdir() if (found := _NAME.match(path.name))]
        second = max([int(time.time()), *(n + 1 for n in there)])
        self._file = (folder / f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0").open("xb")
        self._records = RecordWriter(self._file)
        self._append(Event(file_version="brain.Event:2"))
        if purge_from is not None:
            self._append(Event(step=purge_from, session_log=SessionLog(status=SessionLog.START)))

    def append(self, summary: Summary, step: int = 0) -> None:
        self._append(Event(summary=summary, step=step))

    def flush(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _append(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._file.flush()
