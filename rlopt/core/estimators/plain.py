"""Plain estimator: g is the gradient of the objective on the batch alone."""

from __future__ import annotations

from dataclasses import dataclass

from rlopt.core.parts import Estimator


@dataclass(frozen=True)
class Plain(Estimator):
    """g of this batch alone, with no state."""
