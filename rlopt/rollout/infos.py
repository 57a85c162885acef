"""Scalars from the environments' infos: record.info=[x_position,is_success], without code.

| scalar             | is                                                                     |
|---|---|
| info/NAME          | mean over those transitions of the rollout whose info has the entry NAME |
| info/NAME_at_end   | mean over those episodes that ended in the rollout with it in their last info |

So info/is_success_at_end is the success rate, and info/x_position_at_end how far an episode came. An entry is a number
or true or false; NaN and None count as absent. What a reset returns is not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlopt.parallel.collectives import gather
from rlopt.rollout.buffer import Rollout


def info_scalars(names: Sequence[str], rollout: Rollout) -> dict[str, float]:
    """The scalars of the entries ``names``, over the rollouts of all ranks. Every rank must call this."""
    if not names:
        return {}
    assert rollout.infos is not None
    found = rollout.infos.numpy()  # [T, E, K]
    parts = {"": found.reshape(-1, len(names)), "_at_end": found[rollout.done.numpy()]}
    scalars: dict[str, float] = {}
    for suffix, rows in parts.items():
        here = np.stack([np.nansum(rows, 0), (~np.isnan(rows)).sum(0)])
        sums, counts = np.sum([np.asarray(each) for each in gather(here.tolist())], 0)
        means = zip(names, sums, counts, strict=True)
        scalars |= {f"info/{name}{suffix}": float(total / count) for name, total, count in means if count}
    return scalars


def absent(names: Sequence[str], scalars: dict[str, float]) -> list[str]:
    """The entries that no info had."""
    return [name for name in names if f"info/{name}" not in scalars]
