"""Callbacks: a user's own functions that a run calls.

| callback      | is called                                     | with a RunContext and      |
|---|---|---|
| on_begin      | before the first update, also of a resumed run | the resolved configuration |
| on_rollout    | before an update learns from a rollout         | rollout.buffer.Rollout     |
| on_update     | after an update was recorded                   | its scalars: see loggers.logger |
| on_checkpoint | after a checkpoint was written                 | its path                   |
| on_end        | after the evaluation and summary.json          | the summary                |

They run in the training process, and their time counts as training. A run does not depend on them, with one exception:
if on_update returns True, the run ends after that update as if total_steps had been reached. An exception from a
callback ends the run, with a checkpoint.
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
    """How far a run has come."""

    steps: int  # environment transitions that it has learned from
    updates: int
    run_dir: Path
    policy: Callable[[], Policy]  # a frozen copy of the policy that would be evaluated now


def _do_nothing(context: RunContext, about: Any) -> None:
    pass


@dataclass(frozen=True)
class Callbacks:
    """The callbacks of one run, as the module describes them."""

    on_begin: Callable[[RunContext, Mapping[str, Any]], object] = _do_nothing
    on_rollout: Callable[[RunContext, Rollout], object] = _do_nothing
    on_update: Callable[[RunContext, Mapping[str, float]], object] = _do_nothing
    on_checkpoint: Callable[[RunContext, Path], object] = _do_nothing
    on_end: Callable[[RunContext, Mapping[str, Any]], object] = _do_nothing
