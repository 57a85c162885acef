"""Plan: what the training loop itself needs to know of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlopt.config.options import CheckpointOptions, RecordOptions


@dataclass(frozen=True)
class Plan:
    algo: str
    seed: int
    total_steps: int
    max_bad_updates: int | None
    evaluation_episodes: int
    evaluation_every: int | None  # updates, between two evaluations in the course of the run
    saving: CheckpointOptions
    recording: RecordOptions
    run_dir: Path
    config: Mapping[str, Any]  # all of it, which checkpoints hold
