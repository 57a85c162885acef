"""Saving: when a checkpoint is due, and what a save that fails does to the run: a warning, and an error at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlopt.checkpoint import format as checkpoint
from rlopt.errors import UserError
from rlopt.loggers import console


@dataclass(frozen=True)
class CheckpointOptions:
    """When checkpoints are written, besides the one at the end."""

    every_updates: int | None
    every_seconds: float | None
    keep: int  # the newest that stay, besides the best


class CheckpointManager:
    """Writes a run's checkpoints. When that happens changes nothing in the run itself."""

    def __init__(self, saving: CheckpointOptions, run_dir: Path):
        self._saving, self._run_dir = saving, run_dir
        self._failure: OSError | None = None  # of the last save
        self._warned = False
        self._last = time.perf_counter()
        self.saved: int | None = None  # step of the last checkpoint that was written, or taken up

    def due(self, updates: int) -> bool:
        """Whether one is due after this update."""
        every, seconds = self._saving.every_updates, self._saving.every_seconds
        by_count = every is not None and updates % every == 0
        return by_count or (seconds is not None and time.perf_counter() - self._last >= seconds)

    def save(self, step: int, tree: Mapping[str, Any], score: float | None) -> Path | None:
        """The checkpoint, or None where it could not be written; the last good one is then as it was."""
        place = None
        try:
            place = checkpoint.save(self._run_dir / "checkpoints", step, dict(tree), self._saving.keep, score)
            self.saved, self._failure = step, None
        except OSError as error:
            self._failure = error
            if not self._warned:
                self._warned = True
                console.info(f"rlopt: {self._trouble()}. Training goes on and tries again")
        self._last = time.perf_counter()
        return place

    def told(self, step: int) -> str:
        """What there is to go on from after a run that ended at this step: a disk may be full."""
        if self.saved == step:
            return f"the policy so far is saved in {self._run_dir}"
        return "nothing is saved" if self.saved is None else f"the last checkpoint is of step {self.saved:,}"

    def complain(self) -> None:
        """Raise UserError where the last position could not be saved."""
        if self._failure is not None:
            raise UserError(f"{self._trouble()}. What was trained since then is lost") from self._failure

    def _trouble(self) -> str:
        good = "there is none yet" if self.saved is None else f"the last good one is of step {self.saved:,}"
        return f"the checkpoint cannot be written to {self._run_dir / 'checkpoints'} ({self._failure}); {good}"
