"""Runs for experiments, made as the command line makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlopt.config import read_config
from rlopt.training.factory import build
from rlopt.training.run_directory import choose_run_directory
from rlopt.training.trainer import Trainer


def resolve(overrides: Sequence[str]) -> dict[str, Any]:
    """The plain configuration of these overrides."""
    return dict(read_config(overrides).plain)


def make_trainer(overrides: Sequence[str]) -> Trainer:
    """The run of these overrides; nothing is written before it runs."""
    config = read_config(overrides)
    return build(config, choose_run_directory(config))
