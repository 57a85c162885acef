"""Numerical failure: what the failure policy counts, and how core says it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rlopt.parallel.collectives import all_sum


class NumericalFailure(ArithmeticError):
    """A computation that cannot go on (a factorisation that never held); the step is skipped and counted."""


def first_nonfinite(named: Mapping[str, Tensor], over_ranks: bool = False) -> str | None:
    """Name of the first tensor that holds a NaN or an infinity, or None. Reads the device once.

    A tensor's sum is finite if and only if no entry is bad, unless finite entries overflow it, which is as bad.
    ``over_ranks`` where the tensors are each rank's own, so that all of them hear of it.
    """
    sums = torch.stack([x if x.ndim == 0 else x.sum() for x in named.values()])
    totals = (all_sum(sums) if over_ranks else sums).tolist()
    return next((name for name, total in zip(named, totals, strict=True) if not math.isfinite(total)), None)
