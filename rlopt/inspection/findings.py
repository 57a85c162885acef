"""What an inspection finds, as plain data. What could not be had is None, and ``failure`` says why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rlopt.files import finite


@dataclass(frozen=True)
class Direction:
    """One metric with one solver: x, and the step alpha x."""

    metric: str
    solver: str
    failure: str | None = None
    cosine_gradient: float | None = None
    cosine_exact: float | None = None  # to (M + lambda I)^-1 g; None also where that matrix is not positive definite
    damping: float | None = None  # lambda used; above the one asked for where a factorisation needed it
    residual: float | None = None  # |g - (M_s + lambda I) x| / |g|, M_s the solver's own matrix
    iterations: float | None = None
    alpha: float | None = None
    improvement_predicted: float | None = None  # alpha g^T x, units of the objective
    improvement: float | None = None  # measured
    kl_predicted: float | None = None  # nats, mean over states
    kl: float | None = None  # measured
    milliseconds: float | None = None  # prepare and solve, median
    peak_bytes: int | None = None  # of tensors that prepare and solve made, alive at once


@dataclass(frozen=True)
class Spectrum:
    """One metric's Ritz values other than 0, and what follows from them; in units of M."""

    metric: str
    failure: str | None = None
    eigenvalues: tuple[float, ...] = ()  # largest first
    largest: float | None = None  # by magnitude
    smallest: float | None = None
    condition: float | None = None  # largest / smallest; for a semidefinite M a lower bound, on its range
    negative: int = 0  # how many are below 0

    @classmethod
    def of(cls, metric: str, values: Iterable[float]) -> Spectrum:
        values = tuple(sorted(values, reverse=True))
        if not values:
            return cls(metric, "M is zero")
        sizes = [abs(value) for value in values]
        largest, smallest = max(sizes), min(sizes)
        return cls(metric, None, values, largest, smallest, largest / smallest, sum(value < 0 for value in values))


@dataclass(frozen=True)
class Inspection:
    """Everything found at one theta (P,) on one batch."""

    parameters: int  # P
    samples: int
    damping: float  # lambda, in units of M
    radius: float  # nats
    gradient_norm: float
    directions: list[Direction]
    spectra: list[Spectrum]

    def plain(self) -> dict[str, Any]:
        """Everything as JSON can hold it: what is no finite number is None."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain
