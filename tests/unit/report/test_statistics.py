import itertools

import numpy as np
import pytest
from scipy import stats

from rlopt.report.statistics import (
    RESAMPLES,
    bootstrapped,
    centre,
    estimate,
    improvement,
    pooled,
    profile,
    t_estimate,
)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("runs", [3, 5, 10, 11])
def test_t_interval_of_the_mean_is_scipys(runs):
    scores = drawn(4, runs)
    found = estimate(scores, "mean", "t")
    low, high = stats.t.interval(0.95, runs - 1, scores.mean(-1), stats.sem(scores, axis=-1))
    np.testing.assert_allclose([found.value, found.low, found.high], [scores.mean(-1), low, high], rtol=1e-12)


@pytest.mark.parametrize("runs", [3, 4, 7, 10, 12])
def test_t_interval_of_the_iqm_follows_from_yuens_test(runs):
    """Against a sample without spread Yuen's t is that of one trimmed mean, with its degrees of freedom."""
    scores = drawn(runs)
    zeros = np.zeros(100_000)
    test = stats.ttest_ind(scores, zeros, equal_var=False, trim=0.25)
    mean = stats.trim_mean(scores, 0.25)
    half = mean / test.statistic * stats.t.ppf(0.975, test.df)
    found = t_estimate(scores, "iqm")
    np.testing.assert_allclose([found.value, found.low, found.high], [mean, mean - half, mean + half], rtol=1e-10)
    left = runs - 2 * (runs // 4)
    assert test.df == pytest.approx(left - 1)


def test_iqm_is_the_mean_of_the_middle_half():
    assert centre(np.array([100.0, 1, 2, 3, 4, 5, 6, -100]), "iqm") == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert centre(np.array([1.0, 2, 30]), "iqm") == centre(np.array([1.0, 2, 30]), "mean") == 11


@pytest.mark.parametrize("kind", ["mean", "iqm"])
def test_bootstrap_interval_agrees_with_every_resample_counted(kind):
    """Of 5 runs there are 5^5 resamples: the exact distribution's percentiles, to the noise of RESAMPLES."""
    scores = np.array([0.0, 1.0, 2.5, 4.0, 9.0])
    every = centre(scores[np.array(list(itertools.product(range(5), repeat=5)))], kind)
    found = estimate(scores, kind, "bootstrap")
    for bound, at in ((found.low, 0.025), (found.high, 0.975)):
        share = np.mean(every < bound), np.mean(every <= bound)
        noise = 4 * np.sqrt(at * (1 - at) / RESAMPLES)
        assert share[0] - noise <= at <= share[1] + noise
    assert found.value == centre(scores, kind)


def test_strata_are_resampled_apart():
    """Between environments the scores differ, within them they do not: resampled together they would vary."""
    found = bootstrapped(lambda *s: centre(np.concatenate(s, -1), "mean"), [np.full(4, 1.0), np.full(6, 11.0)])
    assert found.value == found.low == found.high == pytest.approx(7.0)
    found = pooled([np.array([0.0, 1.0]), np.array([10.0, 11.0])], "mean")
    assert found.value == 5.5 and found.low == 5.0 and found.high == 6.0


def test_one_run_has_no_interval():
    for method in ("t", "bootstrap"):
        found = estimate(np.array([[3.0], [4.0]]), "mean", method)
        assert found.value.tolist() == [3, 4] and np.isnan(found.low).all() and np.isnan(found.high).all()
    assert np.isnan(improvement([np.array([1.0])], [np.array([0.0, 2.0])]).low)


def test_equal_runs_have_an_interval_of_no_width():
    for method in ("t", "bootstrap"):
        found = estimate(np.full(5, 500.0), "iqm", method)
        assert (found.value, found.low, found.high) == (500, 500, 500)


def test_probability_of_improvement_is_mann_whitneys():
    x, y = np.array([1.0, 2, 2, 7, 9]), np.array([2.0, 3, 0, 7])
    expected = stats.mannwhitneyu(x, y).statistic / 20
    found = improvement([x], [y])
    assert found.value == pytest.approx(expected)
    assert found.low < expected < found.high
    assert improvement([x, y], [y, x]).value == pytest.approx(0.5)  # mean over environments


def test_profile_counts_runs_above_every_threshold():
    found = profile([np.array([0.0, 1, 2, 3]), np.array([5.0, 5])], np.array([-1.0, 1, 2.5, 5]))
    assert found.value.tolist() == [1.0, (0.5 + 1) / 2, (0.25 + 1) / 2, 0.0]
    assert (found.low <= found.value).all() and (found.value <= found.high).all()
    assert found.low[0] == 1 and found.high[3] == 0


def test_coverage_at_ten_seeds():
    """1,000 simulations of normal scores; experiments/intervals has more of them."""
    scores = drawn(1000, 10, seed=3)
    for kind, method, least, most in (
        ("mean", "t", 0.94, 0.96),
        ("mean", "bootstrap", 0.88, 0.95),
        ("iqm", "t", 0.92, 0.96),
    ):
        found = estimate(scores, kind, method)
        held = np.mean((found.low <= 0) & (found.high >= 0))
        assert least <= held <= most, (kind, method, held)
