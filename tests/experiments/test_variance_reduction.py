"""experiments/variance_reduction: methods differ in the estimator alone, and what is measured is what is said."""

import csv

import numpy as np
import pytest

from experiments.variance_reduction import __main__ as main
from experiments.variance_reduction import weights
from experiments.variance_reduction.training import BEST, FIRST, METHODS, SYSTEM, Job, train
from tests.support.building import resolve


@pytest.mark.parametrize("environment", ["cartpole", "lqr"])
def test_methods_differ_in_the_estimator_alone(environment):
    configs = [resolve(Job(environment, method, 0.01, 3, 100, True).overrides) for method in METHODS]
    assert len({str(config.pop("estimator")) for config in configs}) == len(METHODS) == 4
    for config in configs:
        del config["run_dir"]
        assert config == configs[0] and not config["advantages"]["normalise"]


def test_the_direction_that_was_taken_is_measured():
    plain, reduced = (train(Job("lqr", method, 1e-4, 0, 2000, False)) for method in ("vpg", "svrpg"))
    assert plain.steps == reduced.steps == [400, 800, 1200, 1600, 2000]
    assert np.isfinite(plain.errors).all() and np.isnan(reduced.errors[:3]).all()
    assert 0 < reduced.errors[3] < np.mean(plain.errors[:4]), "the mean of four gradients at one policy"
    assert FIRST == pytest.approx(plain.values[0], rel=0.01) and plain.reached is None
    assert float(SYSTEM.J(-0.2, 0.5)) == FIRST < BEST


def test_weights_help_near_the_snapshot_and_not_far_from_it():
    found = {(kind, distance): error for kind, distance, error in weights.errors(20)}
    for kind in weights.KINDS:
        assert found[kind, 0.003] < 0.05 < found[kind, 0.03] and found[kind, 0.1] > 1
    assert found["decision", 0.01] < found["trajectory", 0.01]


def test_the_rate_with_the_fewest_steps_is_chosen(tmp_path):
    rows = [(0.1, 500), (0.1, ""), (0.2, 600), (0.2, 700), (0.3, 700), (0.3, 600)]
    with (tmp_path / "search.csv").open("w", newline="") as file:
        csv.writer(file).writerows([main.RUN, *(["lqr", "vpg", rate, 0, reached] for rate, reached in rows)])
    assert main.chosen(tmp_path, {"lqr": 1000}) == {("lqr", "vpg"): 0.2}


def test_a_run_is_kept_and_not_repeated(tmp_path, capsys):
    jobs = [Job("lqr", "storm_pg", 0.03, seed, 800, False) for seed in (0, 1)]
    main.collect(jobs[:1], tmp_path / "runs.csv", 1)
    main.collect(jobs, tmp_path / "runs.csv", 1)
    assert capsys.readouterr().out.count("storm_pg") == 2
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 3
    assert len((tmp_path / "errors.csv").read_text().splitlines()) == 5
