"""experiments/intervals: the truth that it measures against, and its table."""

import math
from pathlib import Path

import pytest
from scipy import integrate

from experiments._shared.data import read_rows
from experiments.intervals import __main__ as run

FOLDER = Path(__file__).parents[2] / "experiments/intervals"


@pytest.mark.parametrize(
    "scores, mean, iqm",
    [
        ("normal", 0, 0),
        ("exponential", 1, 2 * integrate.quad(lambda x: x * math.exp(-x), math.log(4 / 3), math.log(4))[0]),
        ("one in five fails", 0.2 * 0.1 + 0.8 * 0.9, 0.875),
    ],
)
def test_truth(scores, mean, iqm):
    assert run.truth(run.SCORES[scores], "mean") == pytest.approx(mean, abs=2e-6)
    assert run.truth(run.SCORES[scores], "iqm") == pytest.approx(iqm, abs=2e-6)


def test_coverage_of_a_t_interval_is_its_level():
    rows = {(r["centre"], r["interval"]): float(r["coverage"]) for r in run.coverage("normal", 5, 500)}
    assert abs(rows["mean", "t"] - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 500)
    assert rows["mean", "bootstrap"] < rows["mean", "t"]


def test_the_page_has_the_table_of_the_results():
    rows = read_rows(FOLDER / "results/coverage.csv")
    assert run.table(rows) in (FOLDER / "README.md").read_text()
