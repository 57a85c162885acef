"""Constant damping: the same lambda for every solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.checks import non_negative
from rlopt.core.parts import Damping, Scalars, State


@dataclass(frozen=True)
class Constant(Damping):
    """The same lambda for every solve.

    Options:
        value: lambda, in units of M; 0 or above. Solvers that factorise a singular M need it above 0.

    Raises ValueError where it is out of its range.
    """

    value: float

    measures: ClassVar[bool] = False

    def __post_init__(self) -> None:
        non_negative("value", self.value)

    def current(self, state: State) -> float:
        return self.value

    def adapt(self, state: State, scalars: Scalars) -> State:
        return state
