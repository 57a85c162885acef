"""experiments/geometry: methods differ in the actor's update alone, and pages say what the numbers say."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from experiments._shared.data import write_rows
from experiments.geometry import __main__ as main
from experiments.geometry import cost, pairs, report
from experiments.geometry.training import METHODS, Run, score, thinned, train
from tests.support.building import resolve

ACTOR = ("objective", "metric", "solver", "damping", "step", "schedule")


def test_methods_differ_in_the_actors_update_alone():
    configs = {name: resolve(Run(name, "hopper", method.grid[0], 3, 100).overrides) for name, method in METHODS.items()}
    updates = {name: str([config.pop(group) for group in ACTOR]) for name, config in configs.items()}
    assert len(set(updates.values())) == len(METHODS)
    assert all(config == configs["cg"] for config in configs.values())


def test_all_but_ppo_have_the_same_rule_for_the_step():
    for name, method in METHODS.items():
        config = resolve(Run(name, "hopper", 0.02, 0, 100).overrides)
        assert name == "ppo" or (config["step"]["radius"], config["step"]["momentum"]) == (0.02, 0.0)
        assert len(method.grid) == 5


def test_a_score_is_of_the_last_tenth():
    points = [(i * 10, float(i), float(i)) for i in range(1, 11)]
    assert score(points, 100) == 10 and score(points, 200) == 10 and score(points, 50) == 5
    assert score([(95, 1.0, 2.0), (100, 2.0, 4.0)], 100) == 3 and np.isnan(score([], 100))
    assert thinned([(i, 2.0 * i, float(i)) for i in range(60)])[0] == (1, 2.0, 0.5)


@pytest.mark.learning  # trains
def test_a_run_is_kept_and_not_repeated(tmp_path, capsys):
    runs = [Run(method, "cartpole", 0.02, 100, 4096) for method in ("muon", "cg")]
    main.collect(runs[:1], tmp_path / "runs.csv", 1, main.RUNS, tmp_path / "curves.csv")
    main.collect(runs, tmp_path / "runs.csv", 1, main.RUNS, tmp_path / "curves.csv")
    said = capsys.readouterr().out
    assert (said.count("muon cartpole"), said.count("cg cartpole")) == (1, 1)
    assert [row["method"] for row in report.read_rows(tmp_path / "runs.csv")] == ["muon", "cg"]


def test_a_run_counts_its_own_processor_time():
    found = train(Run("adam", "cartpole", 0.02, 0, 4096))
    assert [step for step, _, _ in found.curve] == [2048, 4096]
    times = [seconds for _, seconds, _ in found.curve]
    assert 0 < times[0] < times[1] <= found.seconds < 60
    assert 0 < found.kl < 0.04 and found.skipped == 0
    assert 0 < found.waste < 1 and 0 <= found.residual < 0.1


def test_the_value_that_is_best_over_environments_is_chosen():
    """Scores count as shares of an environment's highest: 3,000 on one does not outweigh all others."""
    scores = {("ant", "0.1"): 3000, ("hopper", "0.1"): 1, ("ant", "0.2"): 2500, ("hopper", "0.2"): 4}
    rows = [{"method": "cg", "environment": e, "value": v, "score": str(s)} for (e, v), s in scores.items()]
    assert report.chosen(rows) == {"cg": 0.2}
    assert report.chosen(rows[:-1]) == {}  # not all values have been tried everywhere
    losses = [{**row, "score": f"-{row['score']}"} for row in rows]
    assert report.chosen(losses) == {"cg": 0.1}


def test_the_ends_of_a_grid_are_searched_beside_the_best():
    def values(best: float, environments: tuple[str, ...] = ("ant",)) -> list[float]:
        scores = {v: 1.0 + (v == best) for v in (0.01, 0.02, 0.04)}
        rows = [{"method": "cg", "environment": "ant", "value": str(v), "seed": "100", "score": str(s)}
                for v, s in scores.items()]  # fmt: skip
        return [run.value for run in main.searched(["cg"], environments, 1, 100, rows)]

    assert values(0.02) == [0.01, 0.02, 0.04]
    assert values(0.01) == [0.005, 0.01, 0.02, 0.04] and values(0.04) == [0.01, 0.02, 0.04, 0.08]
    assert values(0.04, ("ant", "hopper")) == [0.01, 0.02, 0.04] * 2  # not before Hopper's have been run


def test_the_search_divides_by_the_best_of_all_methods():
    """By its own scores cg would be best at .01; muon is so far ahead on hopper that ant decides, for .04."""
    scores = {("cg", "hopper"): (3, 2, 1), ("cg", "ant"): (1, 1, 2), ("muon", "hopper"): (100, 100, 100),
              ("muon", "ant"): (0, 0, 0)}  # fmt: skip
    rows = [{"method": m, "environment": e, "value": str(v), "seed": "100", "score": str(s)}
            for (m, e), found in scores.items() for v, s in zip((0.01, 0.02, 0.04), found, strict=True)]  # fmt: skip
    for methods in (["cg"], ["cg", "muon"]):
        runs = main.searched(methods, ["hopper", "ant"], 1, 100, rows)
        assert {run.value for run in runs if run.method == "cg"} == {0.01, 0.02, 0.04, 0.08}
    own = [row for row in rows if row["method"] == "cg"]
    assert {run.value for run in main.searched(["cg"], ["hopper", "ant"], 1, 100, own)} == {0.005, 0.01, 0.02, 0.04}


def test_the_committed_page_names_what_is_confirmed():
    rows = report.read_rows(main.HERE / "results/pairs.csv")
    sure = {(row["first"], row["second"], row["by"]) for row in rows
            if float(row["low"]) > 0.5 and float(row["p_holm"]) <= pairs.LEVEL}  # fmt: skip

    def worse_than(name: str, by: str) -> set[str]:
        return {second for first, second, column in sure if (first, column) == (name, by)}

    springs = {"kfac_spring", "ekfac_spring", "kaczmarz_spring"}
    assert worse_than("kaczmarz", "steps") == {"gradient", "adam", "muon", "kron", "kfac", *springs}
    assert worse_than("shampoo", "seconds") == {"adam", "ppo", "kaczmarz", "kfac_spring", "kaczmarz_spring"}
    assert {first for first, second, by in sure if (second, by) == ("kaczmarz", "seconds")} == {"shampoo", "ekfac"}
    assert {first for first, second, _ in sure if second == "gradient"} == {"kaczmarz"}
    assert {(of, f"{of}_spring", "steps") for of in ("kfac", "ekfac", "kaczmarz")} <= sure
    assert ("cg", "cg_spring", "steps") not in sure


def made_up(folder: Path) -> report.Results:
    """Two methods on two environments: muon is better by steps, cg ten times as quick and better by seconds.

    Odd seeds are of a machine that takes twice as long.
    """
    runs, curves, search = [], [], []
    for environment in ("hopper", "ant"):
        for method, speed, slope in (("cg", 1.0, 1.0), ("muon", 10.0, 1.5)):
            search.append([method, environment, 0.02, 100, 1000, 1, 0, 0, 0])
            runs.append([method, environment, 0.04, 0, 1000, 9e9, 0.02, 1, 0, 0.9, 0])  # of another radius
            for seed in range(6):
                end, took = slope * (1000 + seed), speed * (1 + seed % 2)
                runs.append([method, environment, 0.02, seed, 1000, end, 0.02, took * 10, 0, 0.25, 1e-3])
                for value, factor in ((0.04, 99), (0.02, 3), (0.02, 1)):  # of another radius, and of a run broken off
                    key, steps = (method, environment, value, seed), (100, 500, 1000)
                    curves += [[*key, s, took * s / 100 * factor, factor * end * s / 1000] for s in steps]
    write_rows(folder / "search.csv", main.SEARCH, search)
    write_rows(folder / "runs.csv", main.RUNS, runs)
    write_rows(folder / "curves.csv", main.CURVES, curves)
    write_rows(folder / "cost.csv", cost.COLUMNS, [["cg", 64, 2048, 9, 5.0], ["muon", 64, 2048, 9, 2.0]])
    return report.Results.read(folder)


def test_a_page_says_who_is_better_by_steps_and_by_seconds(tmp_path):
    found = made_up(tmp_path)
    assert (found.budget("ant", 2), found.budget("ant", 3)) == (10, 20) and len(found.scores("cg", "ant")) == 6
    assert found.scores_in_time("cg", "ant").mean() > 5 * found.scores_in_time("muon", "ant").mean()
    assert np.ptp(found.scores_in_time("muon", "ant")) < 1  # slower seeds have more time
    shown = report.page(found)
    assert "| Muon | 1 (1) | 0 (0) | 0 | 0 (0) | 1 (1) | 0 |" in shown
    assert "| Fisher-CG | 0 (0) | 1 (1) | 0 | 1 (1) | 0 (0) | 0 |" in shown
    assert "| Muon | 2 |" in shown and "| 0.02 | 0.25 | 15 |" in shown and "= 0.00 |g|" in shown
    report.draw(found, tmp_path)
    for name in ("scores.png", "pairs.png", "cost.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_pair_on_one_environment_is_mann_and_whitneys_test():
    rng = np.random.default_rng(0)
    for m, n, shift in ((5, 5, 1.0), (3, 4, 0.0), (6, 2, 2.0)):
        x, y = rng.normal(shift, size=m), rng.normal(size=n)
        assert pairs.stratified_p([x], [y]) == pytest.approx(mannwhitneyu(x, y, method="exact").pvalue, rel=1e-12)


def test_a_pair_on_two_environments_is_dealt_in_all_orders():
    rng = np.random.default_rng(1)
    samples = [(rng.normal(1, size=3), rng.normal(size=3)), (rng.normal(1, size=2), rng.normal(size=4))]
    each = []
    for x, y in samples:
        both, size = np.concatenate([x, y]), len(x)
        dealt = [list(chosen) for chosen in combinations(range(len(both)), size)]
        each.append([(both[one][:, None] > np.delete(both, one)).sum() - len(x) * len(y) / 2 for one in dealt])
    far = np.abs(np.add.outer(*each))  # the first of each is the order that was measured
    wanted = (far >= far[0, 0]).mean()
    assert pairs.stratified_p(*zip(*samples, strict=True)) == pytest.approx(wanted, rel=1e-12) and wanted < 1


def test_values_are_corrected_for_their_number():
    assert pairs.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert pairs.holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_pair_that_the_interval_tells_apart_may_fail_the_test(tmp_path):
    few, more = [np.array([2.0, 3.0])], [np.arange(10.0, 20.0)]
    (pair,) = pairs.compared({"a": few, "b": more})
    assert (pair.first, pair.second, pair.ahead_of_chance, pair.confirmed) == ("b", "a", True, True)
    (pair,) = pairs.compared({"a": few, "b": [np.array([10.0, 11.0])]})
    assert (pair.p, pair.ahead_of_chance, pair.confirmed) == (pytest.approx(1 / 3), True, False)
    pairs.write([pair], [], tmp_path / "pairs.csv")
    (row,) = report.read_rows(tmp_path / "pairs.csv")
    assert (row["first"], row["by"], row["probability"], row["p"]) == ("b", "steps", "1", "0.333")


def test_curves_are_of_the_chosen_radius_and_single(tmp_path):
    steps, seconds, returns = made_up(tmp_path).curves["cg", "ant", 2]
    assert (list(steps), list(seconds)) == ([100, 500, 1000], [1, 5, 10])
    assert returns == pytest.approx([100.2, 501, 1002])


def test_nothing_is_said_where_nothing_was_run(tmp_path):
    found = report.Results.read(tmp_path)
    assert report.page(found) == "Not run yet."
    report.draw(found, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cost_is_that_of_the_actors_update(tmp_path):
    pytest.importorskip("mujoco")
    for _ in range(2):  # the second time there is nothing to do
        cost.collect(["gradient"], [(8, 256)], tmp_path / "cost.csv")
    (row,) = report.read_rows(tmp_path / "cost.csv")
    assert (row["width"], row["samples"]) == ("8", "256")
    assert int(row["parameters"]) > 200 and float(row["milliseconds"]) > 0
