"""experiments/mujoco: what is planned, that nothing is run twice, and what the tables say of results that are known."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

import rlopt
from experiments.mujoco import __main__ as main
from experiments.mujoco import front, page, plan, published, running, zoo
from rlopt.checkpoint.format import unpack
from rlopt.checkpoint.manager import load_newest
from rlopt.config import read_config
from tests.support.building import resolve

TINY = ("evaluation.episodes=1", "policy.hidden=[8]", "critic.hidden=[8]")
JOB = plan.Job("cells", "", "trpo", "inverted_double_pendulum", 0, 2048)


def made(seed, mean, curve=((500_000, 1.0), (1_000_000, 3.0)), name="", steps=plan.STEPS, task="hopper"):
    return {
        "algo": "trpo",
        "task": task,
        "name": name,
        "seed": seed,
        "settings": {"steps": steps, "recipe": {}},
        "deterministic": {"mean": mean, "std": 1.0},
        "sampled": {"mean": mean - 1, "std": 1.0},
        "curve": [list(point) for point in curve],
        "skipped": 1,
        "processor_seconds": 10.0 * (seed + 1),
    }


def test_every_cell_has_its_seeds_and_a_published_mean():
    jobs = plan.cells()
    counts = Counter((job.algo, job.task) for job in jobs)
    assert len(jobs) == 4 * (4 * 10 + 4 * 5) + 2 * 4 * 5 == len({job.label for job in jobs})
    assert counts["trpo", "ant"] == 10 and counts["npg", "reacher"] == 5 and counts["vpg", "hopper"] == 5
    assert set(counts) == {(algo, task) for task, known in published.BEST.items() for algo in known}
    assert {source for known in published.BEST.values() for _, source in known.values()} == set(published.SOURCES)
    assert not set(plan.TUNING) & {job.seed for job in jobs}
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)


def test_every_choice_can_be_typed_and_changes_something():
    jobs = {(job.name, job.algo, job.task): job for job in plan.ablations()}
    assert {job.seed for job in plan.ablations()} == {100, 101, 102, 103, 104}
    for (name, algo, task), job in jobs.items():
        config = resolve([f"algo={algo}", f"env={task}", *job.overrides])
        usual = resolve([f"algo={algo}", f"env={task}", *jobs["preset", algo, task].overrides])
        assert config["recipe"] is None and (config == usual) == (name == "preset"), name


def test_options_are_tried_on_all_where_all_are_asked_for():
    ask = main.parser().parse_args
    jobs = main.planned(ask(["--try", "gamma=0.9", "--only", "all", "hopper", "--only", "trpo", "ant"]))
    assert Counter((job.algo, job.task) for job in jobs) == dict.fromkeys(
        [*((algo, "hopper") for algo in plan.ALGOS), ("trpo", "ant")], 3
    )


def test_a_recipe_is_read_with_the_one_that_it_begins_from():
    assert plan.recipe("trpo-hopper") == {"step.radius": 0.04}
    assert plan.recipe("vpg-hopper") == {}
    assert plan.recipe("npg-ant") == {**plan.recipe("vpg-ant"), "step.radius": 0.04}
    config = read_config(["algo=trpo", "env=hopper"])
    assert config.actor.step.radius == 0.04


def test_a_run_with_a_recipe_of_its_own_says_so():
    (other,) = plan.wanted(plan.tries("recipe=a2c-hopper", [("a2c", "ant")]), (), [100])
    (none,) = plan.wanted(plan.tries("recipe=null gamma=0.9", [("a2c", "ant")]), (), [100])
    assert other.settings["recipe"] == plan.recipe("a2c-halfcheetah") and none.settings["recipe"] == {}


def test_a_run_is_made_once_and_again_with_other_settings(tmp_path, capsys, monkeypatch):
    results = tmp_path / "results"
    assert running.collect([JOB], results, tmp_path, 1, TINY) == 0
    found = json.loads((results / "cells/trpo-inverted_double_pendulum-0.json").read_text())
    assert found["settings"] == {"steps": 2048, "overrides": [], "recipe": {}}
    assert found["processor_seconds"] > 0 and found["skipped"] == 0
    assert found["curve"][-1][0] == 2048 and found["deterministic"]["mean"] > 0 < found["sampled"]["mean"]
    assert running.collect([JOB], results, tmp_path, 1) == 0
    assert "1 runs are done, 0 are left" in capsys.readouterr().out
    monkeypatch.setattr(plan, "recipe", lambda name: {"step.radius": 0.5})
    assert not running.is_done(JOB, results) and running.load(results, "cells", [JOB]) == []


def test_a_run_that_fails_is_named_and_leaves_no_result(tmp_path, capsys):
    wrong = JOB._replace(name="gamma=2.5", overrides=("gamma=2.5",))
    assert running.collect([wrong], tmp_path / "results", tmp_path, 2) == 1
    said = capsys.readouterr().out
    assert "FAILED trpo-gamma_2.5-inverted_double_pendulum-0, exit code 2" in said
    log = (tmp_path / "cells/trpo-gamma_2.5-inverted_double_pendulum-0.log").read_text()
    assert "gamma" in log and "cannot read" not in log  # its folder's name needs no quotes
    assert not (tmp_path / "results/cells").exists()


@pytest.mark.learning
def test_the_best_seeds_policy_goes_into_the_zoo(tmp_path, capsys):
    """Kept by its run, or trained again where it was not kept; and not again where it is there already."""
    jobs = [JOB, JOB._replace(seed=1)]
    results, target = tmp_path / "results", tmp_path / "zoo"
    assert running.collect(jobs, results, tmp_path, 1, TINY) == 0
    rows = {row["seed"]: row["deterministic"]["mean"] for row in running.load(results, "cells", jobs)}
    first = max(rows, key=rows.get)
    put = target / "trpo-inverted_double_pendulum"

    def publish():
        capsys.readouterr()
        assert zoo.publish(jobs, results, tmp_path, target, 1, TINY) == 0
        said = capsys.readouterr().out
        summary = json.loads((put / "summary.json").read_text())
        assert summary["seed"] == first and summary["result"] == rows[first]
        assert summary["chosen_of"] == {"seeds": 2, "mean": pytest.approx(sum(rows.values()) / 2, rel=1e-5)}
        return said, {path: path.read_bytes() for path in put.rglob("*") if path.is_file()}

    said, kept = publish()
    assert "are left" not in said and "best of 2 seeds" in (put / "README.md").read_text()
    assert 'rlopt.load("zoo:trpo-inverted_double_pendulum")' in (put / "README.md").read_text()
    for gone in ("results/policies", "cells"):
        shutil.rmtree(tmp_path / gone)
    said, again = publish()  # from what is there already
    assert "are left" not in said and again == kept
    shutil.rmtree(put)
    said, again = publish()  # trained again, to the bit
    assert "0 runs are done, 1 are left" in said
    checkpoint = next(path for path in kept if path.suffix == ".safetensors")
    assert rlopt.load(put)(np.zeros(9)) is not None and len(again) == len(kept)
    assert load_newest(put)[1]["agent"]["actor"]["theta"].equal(
        unpack(kept[checkpoint], checkpoint)["agent"]["actor"]["theta"]
    )
    config = (put / "config.yaml").read_text()
    (put / "config.yaml").write_text(config.replace("gae_lambda", "an_option_of_old"))
    publish()
    assert (put / "config.yaml").read_text() == config  # today's options


def test_a_curve_has_at_most_fifty_points_that_are_means():
    points = [(step, float(step)) for step in range(1000, 1_000_001, 1000)]
    found = running.thinned(points, 1_000_000)
    assert len(found) == running.POINTS and found[-1][0] == 1_000_000
    assert found[1] == [39_000, 29_500.0]  # steps 20,000 to 39,000
    assert sum(value for _, value in found) / 50 == pytest.approx(500_500, rel=0.01)
    assert running.thinned([(64_000, 5.0), (128_000, 7.0)], 128_000) == [[64_000, 5.0], [128_000, 7.0]]


def test_areas_and_first_steps_are_those_of_the_curve():
    assert page.area([(0, 0.0), (1_000_000, 2.0)]) == pytest.approx(1.0, abs=1e-9)
    assert page.area([(500_000, 1.0), (1_000_000, 3.0)]) == pytest.approx(0.5 * 1 + 0.5 * 2, rel=1e-3)
    assert page.reached([(1, 2.0), (2, 5.0), (3, 4.0)], 4.0) == 2 and page.reached([(1, 2.0)], 4.0) is None
    rows = [made(0, 5.0), made(1, 5.0, [(250_000, 3.0), (300_000, 2.5)]), made(2, 5.0, [(9, 0.0), (10, 0.0)])]
    assert page.steps_to(rows, 3.0) == "625,000 (2 of 3)" and page.steps_to(rows, 9.0) == "(0 of 3)"


def test_the_tables_say_what_the_results_do():
    rows = [made(seed, mean) for seed, mean in enumerate([10.0, 20.0, 30.0, 100.0])]
    line = page.returns_table(rows).splitlines()[-1]
    assert "| Hopper-v5 | trpo | 40 (" in line and "| 25 (" in line and "10, 20, 30, 100 |" in line
    assert f"| {39:g} | 3372 S | {40 / 3372:.2f} |" in line
    low = 40 - 3.182446 * np.std([10, 20, 30, 100], ddof=1) / 2
    assert f"({low:.4g} to" in line
    line = page.learning_table(rows).splitlines()[-1]
    assert line.startswith("| Hopper-v5 | trpo | 1.5 (") and line.endswith("| (0 of 4) | 25 | 4 |")


def test_a_choice_is_compared_with_its_preset_on_the_same_task():
    rows = [made(100 + i, value, name="preset", steps=500_000) for i, value in enumerate([1.0, 2.0, 3.0])]
    rows += [made(100 + i, value, name="wide critic", steps=500_000) for i, value in enumerate([11.0, 12.0, 13.0])]
    lines = page.ablations_table(rows).splitlines()
    assert len(lines) == 3 and lines[2].startswith(
        "| wide critic | trpo | Hopper-v5 | 3 | 2 | 12 | +10 (+7.733 to +12.27)"
    )


def test_settings_that_were_tried_stand_with_their_recipe():
    rows = [made(100 + i, value, name="gamma=0.9") for i, value in enumerate([1.0, 2.0])]
    rows[1]["settings"]["recipe"] = {"step.radius": 0.04}
    rows.append(made(102, 3.0, name="gamma=0.9", steps=500_000))
    assert page.tuning_table(rows).splitlines()[2:] == [
        "| Hopper-v5 | trpo | gamma=0.9 (500,000 steps) | - | 3 | 3 (102) |",
        "| Hopper-v5 | trpo | gamma=0.9 | - | 1 | 1 (100) |",
        "| Hopper-v5 | trpo | gamma=0.9 | step.radius=0.04 | 2 | 2 (101) |",
    ]


def test_tianshous_curves_are_there_for_every_cell():
    for task, known in published.BEST.items():
        for algo in known:
            steps, values = published.tianshou(algo, task)
            assert len(steps) > 25 and steps == sorted(steps) and 9e5 < steps[-1] < 1.02e6, (algo, task)
    steps, values = published.tianshou("ppo", "halfcheetah")
    assert values[-1] == pytest.approx(published.BEST["halfcheetah"]["ppo"][0], rel=0.03)


def test_the_page_shows_the_tables_between_its_marks(tmp_path):
    target = shutil.copy(main.HERE / "README.md", tmp_path / "README.md")
    cells = [made(seed, 100.0 + seed) for seed in range(3)]
    ablated = [made(100 + i, 1.0 + i, name=name, steps=500_000) for i in range(2) for name in ("preset", "wide critic")]
    tried = [made(100, 7.0, name="gamma=0.9")]
    for _ in range(2):  # the second time in place of the first
        page.publish(cells, ablated, tried, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    for table in (page.returns_table(cells), page.learning_table(cells), page.ablations_table(ablated),
                  page.tuning_table(tried)):  # fmt: skip
        assert text.count(table) == 1
    assert "No runs yet" not in text and (tmp_path / "curves.png").exists() and str(target).endswith("README.md")
    assert all(f"**{key}**" in text for key in published.SOURCES)


def test_the_committed_page_is_that_of_the_committed_results():
    text = (main.HERE / "README.md").read_text()
    cells = running.load(main.HERE / "results", "cells", plan.cells())
    ablated = running.load(main.HERE / "results", "ablations", plan.ablations())
    tables = ((cells, page.returns_table), (cells, page.learning_table), (ablated, page.ablations_table),
              (running.everything(main.HERE / "results", "search"), page.tuning_table))  # fmt: skip
    for rows, table in tables:
        assert not rows or table(rows) in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "ppo", "hoper"], "hoper is none of"),
        (["--only", "trop", "hopper"], "trop is none of"),
        (["--try", "gamma=0.9"], "--try needs --only ALGO TASK"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(arguments, says, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mujoco", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]


def test_the_options_name_the_runs():
    def labels(*arguments):
        return [job.label for job in main.planned(main.parser().parse_args(arguments))]

    assert labels("--only", "trpo", "hopper", "--seeds", "0,8-9") == ["trpo-hopper-0", "trpo-hopper-8", "trpo-hopper-9"]
    assert len(labels("--only", "all", "ant")) == 4 * 10 + 2 * 5 and len(labels()) == 280
    assert labels("--quick") == ["ppo-hopper-0", "trpo-hopper-0"]
    assert labels("--try", "step.radius=0.1 gamma=0.9", "--only", "trpo", "hopper", "--seeds", "100") == [
        "trpo-step.radius_0.1_gamma_0.9-hopper-100"
    ]
    assert labels("--ablations", "--only", "ppo", "swimmer", "--seeds", "100") == [
        "ppo-preset-swimmer-100", "ppo-gamma_0.99-swimmer-100",
    ]  # fmt: skip


def test_the_first_pages_table_has_seeds_and_intervals():
    one, two = front.table([made(0, 1000.0)]), front.table([made(0, 1000.0), made(1, 1100.0)])
    assert "| Hopper-v5 | 1,000,000 | 1 | - | 1000 | - | - |" in one and "1 of the 160 runs" in " ".join(one.split())
    assert "| Hopper-v5 | 1,000,000 | 2 | - | 1050 (415 to 1685) | - | - |" in two  # 1050 +- 12.706 * 50
    assert "| *highest published* | | | - | 3372 (0.30) | - | - |" in one and "Ant-v5" not in one
    assert front.row("x", 5, [[1.0], [], [1.0, 3.0]]) == "| x | 5 | 1 to 2 | 1 | - | 2 (-11 to 15) |"


def test_the_readme_has_the_table_of_the_committed_results():
    cells = running.load(main.HERE / "results", "cells", plan.cells())
    assert front.table(cells) in (main.ROOT / "README.md").read_text()


def test_drawing_writes_the_readmes_table_unless_quick(monkeypatch, tmp_path):
    monkeypatch.setattr(main, "ROOT", tmp_path)
    monkeypatch.setattr(page, "publish", lambda *given: None)
    readme = tmp_path / "README.md"
    empty = "a\n<!-- results -->\n<!-- end of results -->\nb\n"
    readme.write_text(empty)
    (tmp_path / "quick").mkdir()
    main.show([], tmp_path, tmp_path / "quick", main.parser().parse_args(["--quick"]))
    assert readme.read_text() == empty
    main.show([], tmp_path, tmp_path / "quick", main.parser().parse_args(["--draw"]))
    assert "CartPole-v1" in readme.read_text() and readme.read_text().endswith("results -->\nb\n")
