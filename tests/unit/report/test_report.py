import numpy as np
import pytest

from rlopt.cli import main as cli
from rlopt.report.comparison import compare, improvements, markdown, pooled_table, table
from rlopt.report.grouping import groups, labels
from rlopt.report.runs import flat_options, read_all, read_scalars
from rlopt.report.statistics import align, average
from tests.support.recorded import LINE, events


def read(tmp_path):
    runs, left_out = read_all([tmp_path], "episode/return", unfinished=False)
    return groups(runs), {one.path.name: one.why for one in left_out}


def test_a_run_is_read_as_it_was_recorded(write_run, tmp_path):
    write_run("a", [*LINE, (40, float("nan"))], score=7.0)
    (group,), left_out = read(tmp_path)
    (only,) = group.runs
    assert only.steps.tolist() == [10, 20, 30] and only.values.tolist() == [0, 10, 20]
    assert only.seconds.tolist() == [3, 6, 9] and not left_out


def test_broken_and_unfinished_runs_are_named_and_left_out(write_run, tmp_path):
    write_run("good", LINE)
    write_run("unfinished", LINE, summary=False, seed=1)
    write_run("nothing yet", [], summary=False, seed=2)
    write_run("no curve", [], seed=3)
    write_run("yaml", LINE, seed=4).joinpath("config.yaml").write_text("a: [")
    write_run("other", LINE, seed=5).joinpath("config.yaml").write_text("a: 1")
    write_run("json", LINE, seed=6).joinpath("summary.json").write_text("{")
    write_run("faulty", LINE, summary=False, seed=7).joinpath("error.txt").touch()
    found, left_out = read(tmp_path)
    assert [r.path.name for g in found for r in g.runs] == ["good"]
    assert set(left_out) == {"unfinished", "nothing yet", "no curve", "yaml", "other", "json", "faulty"}
    assert left_out["unfinished"] == "unfinished, at step 30 of 100"
    assert left_out["nothing yet"] == "unfinished, at step 0 of 100"
    assert "error.txt" in left_out["faulty"] and "episode/return" in left_out["no curve"]


def test_unfinished_runs_may_be_asked_for(write_run, tmp_path, capsys):
    write_run("a", LINE)
    write_run("b", LINE[:2], summary=False, seed=1)
    runs, left_out = read_all([tmp_path], "episode/return", unfinished=True)
    assert len(runs) == 2 and not left_out
    write_run("c", [(40, 5.0)], summary=False, seed=2)
    out = str(tmp_path / "f.svg")
    assert cli.main(["plot", str(tmp_path), "--unfinished", "--axis", "both", "--out", out]) == 0
    assert "seeds 0, 1, 2; not drawn" in capsys.readouterr().out


def test_the_same_run_twice_is_one_sample(write_run, tmp_path):
    write_run("old", LINE)
    write_run("new", LINE)
    found, left_out = read(tmp_path)
    assert [r.path.name for r in found[0].runs] == ["new"] and "the same run" in left_out["old"]


def test_a_resumed_run_is_read_past_what_was_purged(write_run, tmp_path):
    folder = write_run("a", LINE)
    events(folder, {"episode/return": [(25, 5.0)]}, after=20)
    assert read_scalars(folder, ["episode/return"])["episode/return"].steps.tolist() == [10, 20, 25]


def test_groups_differ_in_more_than_seed_and_folder(write_run, tmp_path):
    for seed in (2, 0, 1):
        write_run(f"t{seed}", LINE, seed=seed)
        write_run(f"p{seed}", LINE, seed=seed, algo="ppo", solver="identity", clip=0.2)
        write_run(f"a{seed}", LINE, seed=seed, env="Acrobot-v1", gamma=0.9)
    found, _ = read(tmp_path)
    assert [(g.environment, g.method, [r.seed for r in g.runs]) for g in found] == [
        ("Acrobot-v1", "trpo", [0, 1, 2]), ("CartPole-v1", "trpo", [0, 1, 2]), ("CartPole-v1", "ppo", [0, 1, 2]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options, expected",
    [
        ([{"algo": "trpo"}], ["trpo"]),
        ([{"algo": "trpo", "x": "1"}, {"algo": "ppo", "x": "2"}], ["trpo", "ppo"]),
        ([{"solver": "cg", "solver.iterations": "9"}, {"solver": "kfac"}], ["solver=cg", "solver=kfac"]),
        ([{"step.radius": "1"}, {"step.radius": "2"}, {"step.radius": "2", "gamma": "0"}],
         ["no gamma step.radius=1", "no gamma step.radius=2", "gamma=0"]),
        ([{"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "c": "2"}, {"a": "2", "b": "1", "c": "3"}],
         ["c=1", "c=2", "c=3"]),
        ([{"algo": "ppo"}, {"solver": "cg"}, {"solver": "kfac", "damping.value": "1"}, {"solver": "kfac", "damping.value": "2"}],
         ["ppo", "trpo solver=cg", "trpo solver=kfac damping.value=1", "trpo solver=kfac damping.value=2"]),
        ([{}, {"gamma": "0"}], ["no gamma", "gamma=0"]),
    ],
)  # fmt: skip
def test_labels_name_the_fewest_options_that_tell_groups_apart(options, expected):
    configs = [{"algo": "trpo", "env.id": "A", "seed": str(i), **o} for i, o in enumerate(options)]
    assert labels(configs) == expected


def test_options_are_spelled_as_they_are_typed():
    node = {"_target_": "rlopt.core.steps.optimizer.Optimizer", "optimizer": {"lr": 0.1}, "max_norm": None}
    assert flat_options({"critic": {"step": node, "shared": True}, "hidden": [4, 4]}) == {
        "critic.step": "optimizer", "critic.optimizer.lr": "0.1", "critic.step.max_norm": "null",
        "critic.shared": "true", "hidden": "[4, 4]",
    }  # fmt: skip


def test_curves_of_unequal_length_meet_where_all_of_them_are():
    a = np.array([0.0, 1.0, 4.0]), np.array([0.0, 2.0, 8.0])  # y = 2 x
    b = np.array([0.5, 3.0, 9.0]), np.array([1.5, 4.0, 10.0])  # y = x + 1
    x, y = align([a, b], cells=7)
    np.testing.assert_allclose(x, 0.75 + 0.5 * np.arange(7))
    np.testing.assert_allclose(y, np.stack([2 * x, x + 1], -1))


def test_many_updates_are_averaged_over_each_cell():
    x = np.arange(0.0, 1001.0)
    noisy = np.where(x % 2 == 0, 0.0, 2.0)
    _, y = align([(x, noisy)], cells=10)
    np.testing.assert_allclose(y, 1.0)
    assert average(x, noisy) == pytest.approx(1.0) == average(np.array([5.0]), np.array([1.0]))


def test_curves_with_one_common_point_or_none():
    one, two, far = ((np.array(x), np.array(x)) for x in ([1.0, 2.0], [2.0, 3.0], [5.0, 6.0]))
    x, y = align([one, two])
    assert x.tolist() == [2] and y.tolist() == [[2, 2]]
    assert align([one, far])[0].size == 0


def test_scores_are_normalised_by_environment(write_run, tmp_path):
    for seed, (score, other) in enumerate([(50.0, -10.0), (100.0, -20.0)]):
        write_run(f"c{seed}", [(1, 0.0), (2, 90.0)], seed=seed, score=score)
        write_run(f"p{seed}", [(1, 0.0), (2, 90.0)], seed=seed, score=score / 2, algo="ppo")
        write_run(f"d{seed}", [(1, -110.0), (2, -5.0)], seed=seed, score=other, env="Pendulum-v1")
    runs, left_out = read_all([tmp_path], "episode/return", unfinished=False)
    made = compare(groups(runs), left_out, {"Pendulum-v1": (-100.0, 0.0)})
    assert made.ranges == {"CartPole-v1": (0.0, 100.0), "Pendulum-v1": (-100.0, 0.0)}
    assert made.scores_of("trpo")["CartPole-v1"].tolist() == [0.5, 1.0]
    assert made.scores_of("trpo")["Pendulum-v1"].tolist() == pytest.approx([0.9, 0.8])
    assert [row[:2] for row in pooled_table(made)] == [("trpo", "4")]  # ppo has no run on Pendulum
    assert pooled_table(made)[0][2].startswith("0.800 (0.650 to 0.950)")
    (pair,) = improvements(made).items()
    assert pair[0] == ("trpo", "ppo") and pair[1].value == pytest.approx(7 / 8)


def test_where_a_run_was_not_evaluated_training_is_the_score(write_run, tmp_path):
    write_run("a", LINE, score=7.0)
    write_run("b", LINE, seed=1, score=None)
    runs, left_out = read_all([tmp_path], "episode/return", unfinished=False)
    made = compare(groups(runs), left_out, {})
    assert made.score.endswith("of training") and made.scores[0].tolist() == [20, 20]


def test_table_is_markdown():
    text = markdown(("method", "runs"), [("a|b", "3")])
    assert text.splitlines() == ["| method | runs |", "| --- | ---: |", "| a\\|b | 3 |"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["plot", "nowhere"], ["nowhere is not a folder"]),
        (["plot", "empty"], ["empty holds no run", "config.yaml"]),
        (["plot", "done", "--scalar", "loss"], ["no run can be shown", "recorded no loss"]),
        (["plot", "done", "--out", "x.gif"], [".png, .pdf or .svg", "x.gif"]),
        (["plot", "done", "--out", "no/x.png"], ["no/x.png cannot be written"]),
        (["report", "done", "--out", "x.pdf"], ["--out must end in .html", "x.pdf"]),
        (["report", "done", "--range", "CartPole-v1=5,1"], ["--range takes ENV=LOW,HIGH", "CartPole-v1=5,1"]),
        (["report", "done", "--range", "Ant-v5=0,1"], ["--range Ant-v5", "CartPole-v1"]),
        (["report"], ["`rlopt report --help` lists the options"]),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, words, write_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run("done", LINE)
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert all(word in err for word in words) and err.count("\n") == 1 and not out


def test_tables_say_what_was_measured(write_run, tmp_path):
    for seed, score in enumerate([1000.0, 2000.0, 3000.0]):
        write_run(f"r{seed}", LINE, seed=seed, score=score)
    runs, left_out = read_all([tmp_path], "episode/return", unfinished=False)
    ((*first, iqm, low, high, training, seconds),) = table(compare(groups(runs), left_out, {}))
    assert first == ["CartPole-v1", "trpo", "3", "2,000 (-484 to 4,484)"]
    assert iqm.startswith("2,000 (") and (low, high, training, seconds) == ("1,000", "3,000", "10", "9.0")


def test_the_table_is_read_before_the_events(write_run, tmp_path):
    folder = write_run("a", LINE)
    text = (
        "step,episode/return,time/collect,time/update\n10,,1.0,2.0\n20,5.0,1.0,2.0\n20,7.0,,\n30,nan,1,1\n40,8.25,1,1"
    )
    (folder / "scalars.csv").write_text(text)  # the last line is under way
    found = read_scalars(folder, ["episode/return", "time/update", "loss"])
    assert {name: s.values.tolist() for name, s in found.items()} == {"episode/return": [7.0], "time/update": [2, 2, 1]}
    assert found["time/update"].steps.tolist() == [10, 20, 30]
