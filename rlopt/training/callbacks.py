"""Callbacks: functions of one's own that a run calls, and what it tells them.

| when                                                    | is called with                     |
|---|---|
| on_begin, before the first update, of a resumed run too | RunContext, the resolved configuration |
| on_rollout, before an update learns from the batch      | RunContext, rollout.buffer.Rollout     |
| on_update, after an update and its record               | RunContext, its scalars (run.recorder) |
| on_checkpoint, after a checkpoint is written            | RunContext, its path                   |
| on_end, after the evaluation and summary.json           | RunContext, the summary                |

They run in the training process and their time counts; none changes the run but by returning True from on_update, which
ends it after that update as if total_steps had been reached. What one raises ends the run, with a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlopt.policy.policy import Policy
from rlopt.rollout.buffer import Rollout


@dataclass(frozen=True)
class RunContext:
    """Where a run stands."""

    steps: int  # environment transitions it has learned from
    updates: int
    run_dir: Path
    policy: Callable[[], Policy]  # gives the policy that an evaluation would judge now, frozen


def _nothing(moment: RunContext, about: Any) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """See the module's table."""

    on_begin: Callable[[RunContext, Mapping[str, Any]], object] = _nothing
    on_rollout: Callable[[RunContext, Rollout], object] = _nothing
    on_update: Callable[[RunContext, Mapping[str, float]], object] = _nothing
    on_checkpoint: Callable[[RunContext, Path], object] = _nothing
    on_end: Callable[[RunContext, Mapping[str, Any]], object] = _nothing
