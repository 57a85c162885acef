"""Constant damping: the same lambda for every solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.checks import non_negative
from rlopt.core.parts import Scalars, State


@dataclass(frozen=True)
class Constant:
    value: float  # lambda >= 0, in units of M

    measures: ClassVar[bool] = False

    def __post_init__(self) -> None:
        non_negative("value", self.value)

    def init(self) -> State:
        return {}

    def current(self, state: State) -> float:
        return self.value

    def adapt(self, state: State, scalars: Scalars) -> State:
        return state
