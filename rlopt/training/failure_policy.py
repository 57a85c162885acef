"""The failure policy: an update with a number that is not finite is skipped, and too many in a row end the run.

A skipped update has changed nothing (`Agent.learn`, core/update.py), so the run can go on from it. The first of several
skipped in a row is described in nan_report.json, so that the cause can be found:

| entry      | is                                                                                       |
|---|---|
| failure    | the quantity that was not finite, or the computation that could not go on                |
| first      | where in the rollout the first bad number is: step t, number of the environment; or null |
| rank       | the rank that has it; the quantities are those of this rank                              |
| parts      | objective, metric, solver, damping, step, estimator of every network                            |
| quantities | shape; min, max and mean of the finite entries; counts of NaN and inf; index of the first |
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlopt.config.choices import ACTOR_PARTS, stands_for
from rlopt.core.learner import Learner
from rlopt.errors import Stopped
from rlopt.files import finite_json, replace_file, shown
from rlopt.parallel.collectives import gather, rank

NAN_REPORT = "nan_report.json"
# of Rollout.course, in the order in which one transition makes them
_IN_TIME = ("observation", "policy output", "action", "reward")


class FailurePolicy:
    """Counts bad updates. ``limit`` in a row end the run: 1 stops at the first, None never stops."""

    def __init__(self, limit: int | None, run_dir: Path, learners: Mapping[str, Learner]):
        self._limit, self._run_dir, self._learners = limit, run_dir, learners
        self.in_a_row = 0

    def count(
        self, failure: str | None, quantities: Mapping[str, Tensor], step: int, update: int, first_environment: int
    ) -> None:
        """Count an update, whose ``failure`` is None where all was finite. Raises Stopped at the limit.

        ``first_environment`` is the number of this rank's first environment in the run.
        """
        self.in_a_row = self.in_a_row + 1 if failure else 0
        if self.in_a_row == 1:
            about = {"step": step, "update": update, "failure": failure}
            with suppress(OSError):  # the run can go on without the report
                write_report(self._run_dir, about, self._learners, quantities, first_environment)
        if self._limit is not None and self.in_a_row >= self._limit:
            raise Stopped(
                f"{self.in_a_row} updates in a row were skipped for numbers that are not finite, the last because of: "
                f"{failure}. Stopped at step {step:,}; the policy is as it was before them, "
                f"in {shown(self._run_dir / 'checkpoints')}; {shown(self._run_dir / NAN_REPORT)} describes the first. "
                "Try a smaller learning rate or radius, or more damping"
            )


def first_bad_quantity(quantities: Mapping[str, Tensor]) -> str | None:
    """The rollout's quantity that was the first in time to hold a NaN or an infinity, on any rank."""
    found = [where for where in gather(_first_bad(quantities)) if where]
    return _IN_TIME[min(found)[1]] if found else None


def write_report(
    run_dir: Path,
    about: Mapping[str, Any],
    learners: Mapping[str, Learner],
    quantities: Mapping[str, Tensor],
    first_environment: int,
) -> None:
    """Write nan_report.json to rank 0's ``run_dir``. All ranks must call this. ``about``: step, update, failure."""
    where = _first_bad(quantities)
    here = {
        "first": where and {"quantity": _IN_TIME[where[1]], "t": where[0], "environment": first_environment + where[2]},
        "quantities": {name: describe(x) for name, x in quantities.items()},
    }
    gathered = gather((where, here))
    places = [each for each, _ in gathered]
    earliest = min(range(len(gathered)), key=lambda r: (places[r] is None, places[r] or (), r))
    parts = {
        name: {part: stands_for(getattr(learner.update, part)) for part in ACTOR_PARTS}
        for name, learner in learners.items()
    }
    report = {**about, "rank": earliest, "parts": parts, **gathered[earliest][1]}
    if rank() == 0:
        replace_file(run_dir / NAN_REPORT, finite_json(report, indent=1) + "\n")


def describe(x: Tensor) -> dict[str, Any]:
    """Shape of a tensor, range of its finite entries, counts of the others, and the index of the first of those."""
    wide = x.detach().to("cpu", torch.float64)
    finite = wide.isfinite()
    good, bad = wide[finite], (~finite).nonzero()
    return {
        "shape": list(x.shape),
        "min": good.min().item() if len(good) else None,
        "max": good.max().item() if len(good) else None,
        "mean": good.mean().item() if len(good) else None,  # infinite where the sum overflows
        "nan": int(wide.isnan().sum()),
        "inf": int(wide.isinf().sum()),
        "first": bad[0].tolist() if len(bad) else None,
    }


def _first_bad(quantities: Mapping[str, Tensor]) -> tuple[int, int, int] | None:
    """(t, index into _IN_TIME, e) of this rank's first number that is not finite."""
    found = []
    for order, name in enumerate(_IN_TIME):
        if name in quantities and len(bad := (~quantities[name].isfinite()).nonzero()):
            t, e = bad[0][:2].tolist()
            found.append((t, order, e))
    return min(found, default=None)
