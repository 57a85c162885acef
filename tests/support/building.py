"""Configurations and runs, made as the command line makes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlopt.config import check_config, read_config
from rlopt.training.factory import build
from rlopt.training.run_directory import choose_run_directory
from rlopt.training.trainer import Trainer


def resolve(overrides: Sequence[str]) -> dict[str, Any]:
    """The plain configuration of these overrides, parsed and checked."""
    return dict(read_config(overrides).plain)


def trainer(plain: Mapping[str, Any], run_dir: Path | None = None) -> Trainer:
    """The run of a plain configuration."""
    config = check_config(plain)
    return build(config, run_dir or choose_run_directory(config))
