"""nan_report.json: what an update that was skipped had been given, so that the first bad number can be found.

| entry      | is                                                                                       |
|---|---|
| failure    | the quantity that was not finite, or the computation that could not go on                |
| first      | where in the rollout: its step t, the environment's number and the rank, if it is there   |
| parts      | of every network                                                                         |
| quantities | shape; min, max and mean of the finite entries; counts of NaN and inf; index of the first |

Of several ranks the quantities are those of the rank where it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlopt.config.choices import PARTS, stands_for
from rlopt.core.learner import Learner
from rlopt.files import finite_json, replace_file
from rlopt.parallel.collectives import gather
from rlopt.parallel.collectives import rank as own_rank

NAME = "nan_report.json"
_COURSE = ("observation", "policy output", "action", "reward")  # as in Rollout.course


def earliest(seen: Mapping[str, Tensor]) -> str | None:
    """Which of the rollout's quantities was the first, in time, to hold a NaN or an infinity on any rank."""
    found = [place for place in gather(_first(seen)) if place]
    return _COURSE[min(found)[1]] if found else None


def write(
    run_dir: Path, about: dict[str, Any], learners: Mapping[str, Learner], seen: Mapping[str, Tensor], first: int
) -> None:
    """The report of an update, to rank 0's ``run_dir``; ``first`` is the number of this rank's first environment.

    Every rank takes part. ``about``: step, update and failure.
    """
    place = _first(seen)
    here = {
        "first": place and {"quantity": _COURSE[place[1]], "t": place[0], "environment": first + place[2]},
        "quantities": {name: summary(x) for name, x in seen.items()},
    }
    found = gather((place, here))
    places = [place for place, _ in found]
    rank = min(range(len(found)), key=lambda r: (places[r] is None, places[r] or (), r))
    parts = {name: _parts(learner) for name, learner in learners.items()}
    report = {**about, "rank": rank, "parts": parts, **found[rank][1]}
    if own_rank() == 0:
        replace_file(run_dir / NAME, finite_json(report, indent=1) + "\n")


def summary(x: Tensor) -> dict[str, Any]:
    """A tensor's shape and the range of its finite entries, and how many are not and where the first of them is."""
    wide = x.detach().to("cpu", torch.float64)
    finite = wide.isfinite()
    good = wide[finite]
    bad = (~finite).nonzero()
    some = len(good) > 0
    return {
        "shape": list(x.shape),
        "min": good.min().item() if some else None,
        "max": good.max().item() if some else None,
        "mean": good.mean().item() if some else None,
        "nan": int(wide.isnan().sum()),
        "inf": int(wide.isinf().sum()),
        "first": bad[0].tolist() if len(bad) else None,
    }


def _first(seen: Mapping[str, Tensor]) -> tuple[int, int, int] | None:
    """(t, which quantity, e) of this rank's first bad number."""
    found = []
    for order, name in enumerate(_COURSE):
        if name in seen and len(bad := (~seen[name].isfinite()).nonzero()):
            t, e = bad[0][:2].tolist()
            found.append((t, order, e))
    return min(found, default=None)


def _parts(learner: Learner) -> dict[str, str]:
    return {name: stands_for(getattr(learner.update, name)) for name in PARTS}
