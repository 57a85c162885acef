"""Budget: what is left out of an inspection because it would take too long.

The time of a pair is estimated from what its solver says of its work, see `requirements.Work`: so many products, of
which one is timed, and so many operations at the rate of large matrix products on one core.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.parts import Metric, Solver

_RATE = 4e10  # operations per second of large matrix products on one core
_MATRIX_UP_TO = 10_000  # parameters for which a metric's own matrix, .8 GB in float64, is made
_TIMED = 3  # products


@dataclass(frozen=True)
class Limits:
    """What an inspection may take. Without limits every pair is inspected, however long it takes."""

    seconds: float = math.inf  # a pair whose solver would take longer for one solve is left out
    exact: bool = False  # find every exact solution by a factorisation of the whole matrix, in float64

    @property
    def quick(self) -> bool:
        return self.seconds < math.inf

    def allow(self, metric: Metric, size: int) -> bool:
        """False where the metric would hold a matrix that is too large; ``size`` is P."""
        return not (self.quick and metric.requirements.holds_matrix and size > _MATRIX_UP_TO)


NO_LIMITS = Limits()


@dataclass(frozen=True)
class LeftOut:
    """What was not computed, because it would take too long."""

    metric: str
    solver: str | None  # None: the exact solution
    seconds: float | None  # processor time of one solve, estimated; None where it was not


class Clock:
    """Estimates solves with one curvature, for gradients g (P,)."""

    def __init__(self, curvature: Curvature, g: Tensor):
        self._curvature, self._g = curvature, g

    def estimate(self, solver: Solver) -> float:
        """Seconds of processor time of `prepare` and one solve; 0 where the solver says nothing of its work."""
        if (measure := solver.requirements.work) is None:
            return 0.0
        work = measure(self._curvature)
        products = work.products * self._product_seconds if work.products else 0.0
        return products + work.operations / _RATE

    @cached_property
    def _product_seconds(self) -> float:
        self._curvature.product(self._g)  # the first one makes room
        begin = time.process_time()
        for _ in range(_TIMED):
            self._curvature.product(self._g)
        return (time.process_time() - begin) / _TIMED
