"""A file to which whole records are appended: after an error, or a crash of the program, it ends with a whole one."""

from __future__ import annotations

import os
from pathlib import Path


class AppendedFile:
    """Each record reaches the system before the next. One that cannot be written whole leaves nothing behind."""

    def __init__(self, path: Path, new: bool = False):
        self._file = path.open("xb" if new else "ab", buffering=0)
        self._end = os.fstat(self._file.fileno()).st_size  # of the last whole record
        self._whole = True

    def append(self, record: bytes) -> None:
        """Write one record. Raises OSError where that fails; the file is then as it was before."""
        if not self._whole:
            self._cut()
        self._whole = False
        try:
            rest = memoryview(record)
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException:
            try:
                self._cut()
            except OSError:
                pass  # the next record tries again
            raise
        self._end, self._whole = self._end + len(record), True

    def synchronise(self) -> None:
        """Wait until everything is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _cut(self) -> None:
        """Take away the beginning of a record that was not written whole."""
        self._file.seek(self._file.truncate(self._end))
        self._whole = True
