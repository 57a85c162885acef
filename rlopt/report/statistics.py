"""Averages over seeds with 95% intervals, performance profiles, probability of improvement.

Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice": the interquartile mean
(IQM, of the middle half of the runs), intervals by the percentile bootstrap stratified by environment, the profile
P(score > tau), and P(X > Y) by the Mann-Whitney statistic.

From few seeds the bootstrap is too narrow (experiments/intervals measures by how much). The t interval is not, where
scores are near normal: mean +- t_{n-1} s / sqrt(n), and for a trimmed mean, g runs being cut at each end and h = n - 2g
left (Tukey and McLaughlin 1963), mean +- t_{h-1} sqrt((n - 1) s_w^2 / (h (h - 1))), s_w^2 the variance of the scores
with the g lowest and highest put to the nearest that stay.

Arrays hold runs, R of them, along their last axis; intervals are (low, high), nan where there are too few runs.
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
_CUT = 0.25  # of the runs, at each end, leaves the interquartile mean


class Estimate(NamedTuple):
    value: Array  # (...)
    low: Array
    high: Array


def centre(scores: Array, kind: Centre) -> Array:
    """(..., R) -> (...): mean, or interquartile mean; of three runs or fewer the two are the same."""
    return np.asarray(np.mean(scores, -1) if kind == "mean" else stats.trim_mean(scores, _CUT, axis=-1))


def estimate(scores: Array, kind: Centre, method: Method) -> Estimate:
    """The centre of the runs of one environment (..., R), with its interval (...)."""
    return t_estimate(scores, kind) if method == "t" else bootstrapped(lambda x: centre(x, kind), [scores])


def t_estimate(scores: Array, kind: Centre) -> Estimate:
    """With the t interval."""
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
    """The fraction of runs above every threshold (N,), each environment counting alike; see Agarwal et al., eq. 3."""
    above = [(s > thresholds[:, None]).astype(float) for s in strata]
    return bootstrapped(lambda *s: np.mean([np.mean(x, -1) for x in s], 0), above)


def improvement(first: Sequence[Array], second: Sequence[Array]) -> Estimate:
    """P(a run of the first method scores above one of the second), ties a half, mean over environments."""
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
