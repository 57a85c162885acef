"""Checks of options, whose errors say what was wanted and what came; and the error of a computation that fails."""

from __future__ import annotations

import math
from typing import Any

LARGEST = 3.4e38  # what float32 can hold
_MOST = 10**15  # its products with sizes of batches fit int64


class NumericalFailure(ArithmeticError):
    """A computation has no result, such as a factorisation at any damping; the step is skipped and counted."""


def check(holds: bool, name: str, wanted: str, came: Any) -> None:
    """Raise ValueError unless ``holds``. A NaN fails every comparison, and so every check."""
    if not holds:
        raise ValueError(f"{name} must be {wanted}; got {came!r}")


def positive(name: str, value: float) -> None:
    check(0 < value < math.inf, name, "a finite number above 0", value)
    check(value <= LARGEST, name, f"at most {LARGEST:g}, what float32 can hold", value)


def non_negative(name: str, value: float) -> None:
    check(0 <= value < math.inf, name, "a finite number, 0 or above", value)
    check(value <= LARGEST, name, f"at most {LARGEST:g}, what float32 can hold", value)


def between(name: str, value: float, low: float, high: float) -> None:
    check(low <= value <= high, name, f"between {low:g} and {high:g}", value)


def at_least_one(name: str, value: int) -> None:
    check(isinstance(value, int) and value >= 1, name, "a whole number, 1 or above", value)
    check(value <= _MOST, name, f"at most {_MOST:g}", value)
