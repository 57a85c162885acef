"""experiments/minatar: what is planned, and what the table says of results that are known."""

import pytest

from experiments.minatar import __main__ as main
from tests.support.building import resolve


def made(game, algo, seed, value):
    return {"name": f"{game} {algo}", "environment": "minatar", "seed": str(seed), "evaluation_return": str(value),
            "sampled_evaluation_return": str(value - 1)}  # fmt: skip


def test_every_cell_has_three_seeds_of_equal_length():
    runs = main.planned(False, [])
    assert len(runs) == len({run.key for run in runs}) == 5 * 3 * 3
    assert {run.steps for run in runs} == {2_000_000} and [run.seed for run in runs] == sorted(run.seed for run in runs)
    for run in runs[:15]:
        config = resolve(["env=minatar", *run.overrides])
        assert config["policy"]["channels"] == [16] and config["policy"]["hidden"] == [128]
        assert config["env"]["wrappers"] == ["minatar"] and run.name.split()[1] == config["algo"]


def test_cells_are_named():
    assert [run.name for run in main.planned(False, [["Breakout", "ppo"]])] == ["Breakout ppo"] * 3
    assert len(main.planned(False, [["all", "trpo"]])) == 15
    assert {run.steps for run in main.planned(True, [])} == {main.QUICK}


def test_the_table_has_means_intervals_and_what_others_published():
    rows = [made("Breakout", "ppo", seed, value) for seed, value in enumerate([10.0, 20.0, 30.0])]
    lines = main.table([*rows, made("Seaquest", "trpo", 0, 5.0)]).splitlines()
    assert lines[2] == "| Breakout | ppo | 20 (-4.841 to 44.84) | 19 | 3 | 28 |"
    assert lines[3] == "| Seaquest | trpo | 5 | 4 | 1 |  |"


def test_a_mistake_in_the_options_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["minatar", "--only", "Pong", "ppo"])
    with pytest.raises(SystemExit):
        main.main()
    assert "Pong is none of Asterix" in capsys.readouterr().err.splitlines()[-1]
