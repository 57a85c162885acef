"""The options at the top of the configuration, which belong to no group."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from rlopt.config.schema import construct
from rlopt.core.checks import at_least_one, between, check
from rlopt.errors import UserError
from rlopt.parallel.ranks import local_device

LOWER = "lower batch_size, env.num_envs, policy.hidden or critic.hidden"  # to make a run smaller
_TOO_LARGE = re.compile("allocate|size calculation overflow|too large|index-sized")  # errors of torch and Python


@dataclass(frozen=True)
class Common:
    """See conf/config.yaml for what each is."""

    algo: str
    seed: int
    total_steps: int
    batch_size: int
    workers: int
    gamma: float
    gae_lambda: float
    state_weighting: str
    max_bad_updates: int | None
    device: str
    dtype: str
    run_dir: str | None
    updates: int | None

    def __post_init__(self) -> None:
        check("\0" not in (self.run_dir or ""), "run_dir", "a path", self.run_dir)
        check(self.seed >= 0, "seed", "a whole number, 0 or above", self.seed)
        at_least_one("total_steps", self.total_steps)
        at_least_one("batch_size", self.batch_size)
        at_least_one("workers", self.workers)
        between("gamma", self.gamma, 0, 1)
        between("gae_lambda", self.gae_lambda, 0, 1)
        weightings = ("uniform", "discounted")
        check(self.state_weighting in weightings, "state_weighting", "uniform or discounted", self.state_weighting)
        if self.max_bad_updates is not None:
            at_least_one("max_bad_updates", self.max_bad_updates)
        check(self.dtype in ("float32", "float64"), "dtype", "float32 or float64", self.dtype)

    @property
    def torch_dtype(self) -> torch.dtype:
        return torch.float64 if self.dtype == "float64" else torch.float32

    def torch_device(self) -> torch.device:
        """The device, or UserError where it is absent."""
        name = local_device(self.device)
        try:
            device = torch.device(name)
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
            there = "cpu" + (f", cuda ({gpus} of them)" if gpus else "")
            raise UserError(f"device={name} is not available here; there is {there}") from error
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        return device


@contextmanager
def in_memory(what: str, advice: str) -> Iterator[None]:
    """What does not fit there is the user's mistake, with advice."""
    try:
        yield
    except (MemoryError, RuntimeError, OverflowError) as error:
        if not isinstance(error, MemoryError) and not _TOO_LARGE.search(str(error)):
            raise
        raise UserError(f"{what} does not fit into memory; {advice}") from error


def common_options(config: Mapping[str, Any]) -> Common:
    """They, checked; raises UserError."""
    values = {name: config[name] for name in Common.__dataclass_fields__ if name in config}
    try:
        return construct(Common, values, "")
    except UserError as error:
        raise UserError(str(error).removeprefix(".")) from error
