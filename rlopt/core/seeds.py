"""Random numbers of solvers and metrics: they depend on whole numbers alone, not on the device or the run."""

from __future__ import annotations

import numpy as np
import torch


def seeded(*numbers: int) -> torch.Generator:
    """A generator on the CPU, another one for other ``numbers``, 0 or above; zeros at the end do not count."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))
