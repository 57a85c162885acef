"""The failure policy of a run: an update with a number that is not finite is skipped, and so many in a row are the end.

What was skipped has changed nothing (`Agent.learn`, core/update.py), so that a run can go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rlopt.core.learner import Learner
from rlopt.errors import Stopped
from rlopt.training import nan_report
from rlopt.training.agent import UpdateResult


class FailurePolicy:
    """Counts bad updates. ``limit`` in a row end the run: 1 stops at the first, None goes on whatever happens."""

    def __init__(self, limit: int | None, run_dir: Path, learners: Mapping[str, Learner]):
        self._limit, self._run_dir, self._learners = limit, run_dir, learners
        self.in_a_row = 0

    def judge(self, lesson: UpdateResult, step: int, update: int, first: int) -> None:
        """Take in an update; ``first`` is the number of this rank's first environment. Raises Stopped.

        The first of several bad ones in a row is described in nan_report.json.
        """
        self.in_a_row = self.in_a_row + 1 if lesson.failure else 0
        if self.in_a_row == 1:
            about = {"step": step, "update": update, "failure": lesson.failure}
            with suppress(OSError):  # without the report the run can go on
                nan_report.write(self._run_dir, about, self._learners, lesson.quantities, first)
        if self._limit is not None and self.in_a_row >= self._limit:
            raise Stopped(
                f"{self.in_a_row} updates in a row were skipped for numbers that are not finite, the last because of: "
                f"{lesson.failure}. Stopped at step {step:,}; the policy is as it was before them, "
                f"in {self._run_dir / 'checkpoints'}; {self._run_dir / nan_report.NAME} describes the first. "
                "Try a smaller learning rate or radius, or more damping"
            )
