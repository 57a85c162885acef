"""Learning curves on one grid, averages over seeds with 95% intervals, profiles, probability of improvement.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice": the interquartile mean
(IQM, of the middle half of the runs), intervals by the percentile bootstrap stratified by environment, the profile
P(score > tau), and P(X > Y) by the Mann-Whitney statistic.

From few seeds the bootstrap is too narrow (experiments/intervals measures by how much). The t interval is not, where
scores are near normal: mean +- t_{n-1} s / sqrt(n), and for a trimmed mean, g runs being cut at each end and h = n - 2g
left (Tukey and McLaughlin 1963), mean +- t_{h-1} sqrt((n - 1) s_w^2 / (h (h - 1))), s_w^2 the variance of the scores
with the g lowest and highest put to the nearest that stay.

Arrays hold R runs along their last axis. Intervals are (low, high), nan where there are too few runs.

Curves of several runs come on one grid: each is joined by straight lines and averaged over each cell. So runs with many
updates are smoothed and runs with few are interpolated by the same rule. The grid covers the steps that all runs have,
from the latest first point to the earliest last point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Centre = Literal["iqm", "mean"]
Method = Literal["t", "bootstrap"]

LEVEL = 0.95
RESAMPLES = 2000
CELLS = 100  # of the grid of learning curves
_CUT = 0.25  # of the runs, at each end, leaves the interquartile mean


class Estimate(NamedTuple):
    """A value with its 95% interval; nan in the interval where there is none."""

    value: Array  # (...)
    low: Array
    high: Array


def align(curves: Sequence[tuple[Array, Array]], cells: int = CELLS) -> tuple[Array, Array]:
    """Curves (x, y) with x increasing -> the cells' middles (G,) and the curves' means there (G, R).

    G is 1 if the curves have a single x in common, and 0 if they have none.
    """
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not first < last:
        common = np.array([first])[: int(first == last)]
        return common, np.array([np.interp(common, x, y) for x, y in curves]).T
    edges = np.linspace(first, last, cells + 1)
    return (edges[1:] + edges[:-1]) / 2, np.array([_cell_means(x, y, edges) for x, y in curves]).T


def average(x: Array, y: Array) -> float:
    """The mean of one curve over its whole range."""
    return float(y[0] if len(x) == 1 else _cell_means(x, y, x[[0, -1]])[0])


def _cell_means(x: Array, y: Array, edges: Array) -> Array:
    """The means of the line through (x, y) between neighbouring edges."""
    corners = np.union1d(x, edges)
    heights = np.interp(corners, x, y)
    area = np.concatenate([[0.0], np.cumsum(np.diff(corners) * (heights[1:] + heights[:-1]) / 2)])
    return np.diff(area[np.searchsorted(corners, edges)]) / np.diff(edges)


def centre(scores: Array, kind: Centre) -> Array:
    """(..., R) -> (...): mean, or interquartile mean. For three runs or fewer they are the same."""
    return np.asarray(np.mean(scores, -1) if kind == "mean" else stats.trim_mean(scores, _CUT, axis=-1))


def estimate(scores: Array, kind: Centre, method: Method) -> Estimate:
    """The centre of the runs of one environment (..., R), with its interval (...)."""
    return t_estimate(scores, kind) if method == "t" else bootstrapped(lambda x: centre(x, kind), [scores])


def within(e: Estimate, bounds: tuple[float, float] | None) -> Estimate:
    """The estimate with its interval cut to the values that are possible.

    It is left as it is where these are not known, and where the estimate itself is none of them.
    """
    if bounds is None or np.any(e.value < bounds[0]) or np.any(e.value > bounds[1]):
        return e
    return Estimate(e.value, *(np.clip(x, *bounds) for x in (e.low, e.high)))


def t_estimate(scores: Array, kind: Centre) -> Estimate:
    """The centre of the runs (..., R) with the t interval (...)."""
    value, n = centre(scores, kind), scores.shape[-1]
    cut = int(_CUT * n) if kind == "iqm" else 0
    left = n - 2 * cut
    if left < 2:
        return _without_interval(value)
    ordered = np.sort(scores, -1)
    winsorised = np.clip(scores, ordered[..., cut, None], ordered[..., n - 1 - cut, None])
    half = np.sqrt((n - 1) * np.var(winsorised, -1, ddof=1) / (left * (left - 1)))
    half = half * stats.t.ppf((1 + LEVEL) / 2, left - 1)
    return Estimate(value, value - half, value + half)


def bootstrapped(statistic: Callable[..., Array], strata: Sequence[Array]) -> Estimate:
    """``statistic(*strata)`` with the interval of the stratified bootstrap; strata are arrays (..., R_i).

    ``statistic`` reduces the last axis of each. Every stratum is resampled on its own.
    """
    value = np.asarray(statistic(*strata))
    if min(s.shape[-1] for s in strata) < 2:
        return _without_interval(value)
    found = stats.bootstrap(
        strata, lambda *samples, axis: statistic(*samples), axis=-1, n_resamples=RESAMPLES, confidence_level=LEVEL,
        method="percentile", vectorized=True, batch=200, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Estimate(value, np.asarray(found.low), np.asarray(found.high))


def pooled(strata: Sequence[Array], kind: Centre) -> Estimate:
    """The centre of all environments' scores together, one array of normalised scores (R_i,) for each environment."""
    return bootstrapped(lambda *s: centre(np.concatenate(s, -1), kind), strata)


def profile(strata: Sequence[Array], thresholds: Array) -> Estimate:
    """The fraction of runs above each threshold (N,), environments weighted equally (Agarwal et al., eq. 3)."""
    above = [(s > thresholds[:, None]).astype(float) for s in strata]
    return bootstrapped(lambda *s: np.mean([np.mean(x, -1) for x in s], 0), above)


def improvement(first: Sequence[Array], second: Sequence[Array]) -> Estimate:
    """P(a run of the first method scores above one of the second): ties count half; the mean over environments."""
    count = len(first)

    def statistic(*samples: Array) -> Array:
        pairs = zip(samples[:count], samples[count:], strict=True)
        return np.mean([_above(x, y) for x, y in pairs], 0)

    return bootstrapped(statistic, [*first, *second])


def _above(x: Array, y: Array) -> Array:
    """Mann-Whitney's U / (R_x R_y) -> (...)."""
    difference = x[..., :, None] - y[..., None, :]
    return np.mean(np.heaviside(difference, 0.5), (-2, -1))


def _without_interval(value: Array) -> Estimate:
    nothing = np.full_like(value, np.nan, dtype=float)
    return Estimate(value, nothing, nothing)
