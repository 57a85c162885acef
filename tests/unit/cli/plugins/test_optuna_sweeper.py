"""A study of Optuna's: what is drawn from what is typed, pruning, and a study that was stopped."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlopt.cli import main as cli
from rlopt.config.overrides import parse
from rlopt.errors import Stopped, UserError
from rlopt.training.trainer import Trainer
from tests.support.command_line import SHORT, chosen, created, one_line

optuna = pytest.importorskip("optuna", reason="wants the extra optuna")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402

from rlopt.cli.plugins import optuna_sweeper  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("elsewhere"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]
OPTIONS = {**optuna_sweeper._OPTIONS, "storage": "sqlite:///study.db", "startup": 1}
STUDY = ["train", "-m", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "gae_lambda=0.9,0.95", "algo=ppo",
         "hydra/sweeper=optuna", "hydra.sweeper.startup=2", *chosen(*SHORT, "total_steps=120")]  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "drawn"),
    [
        ("a=interval(1,2)", FloatDistribution(1.0, 2.0)),
        ("a=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=range(16,80,step=16)", IntDistribution(16, 64, step=16)),
        ("a=range(4,0,step=-1)", IntDistribution(1, 4)),
        ("a=range(0.5,2,step=0.5)", CategoricalDistribution(["0.5", "1.0", "1.5"])),
        ("a=choice(adam,sgd)", CategoricalDistribution(["adam", "sgd"])),
        ("a=[4],[8,8]", CategoricalDistribution(["[4]", "[8,8]"])),
    ],
)
def test_what_is_typed_says_what_is_drawn(typed, drawn):
    assert optuna_sweeper.distribution(parse(typed)) == drawn


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("a=tag(quick,interval(1,2))", "the tag may be log"),
        ("a=tag(log,interval(0,2))", r"a=tag\(log,interval\(0,2\)\):"),
        (
            "+step__optimizer__lr=interval(1e-2,1e-4)",
            r"^optimizer.lr=interval\(1e-2,1e-4\): the lower end comes first, interval\(0.0001,0.01\)",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(typed, wanted):
    with pytest.raises(UserError, match=wanted):
        optuna_sweeper.distribution(parse(typed))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampler", "grid"),
        ("pruner", "best"),
        ("n_trials", 0),
        ("reports", 0.5),
        ("direction", "up"),
        ("storage", None),
    ],
)
def test_an_option_that_cannot_be_is_named(name, value):
    with pytest.raises(UserError, match=f"hydra.sweeper.{name}={value}: "):
        optuna_sweeper.open_study({**OPTIONS, name: value})


def test_an_option_that_there_is_not_is_one_line(run):
    code, _, err = run(*STUDY, "hydra.sweeper.nope=1", "sweep_dir=study")
    assert code == 2 and err.count("\n") == 1 and created() == []
    assert err.startswith("rlopt: ") and err.endswith("there is no option hydra.sweeper.nope\n")


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (
            "schedule.epochs=interval(1,8)",
            "whole number; got 5.326237920900001; int(interval(1,8)) draws whole numbers",
        ),
        ("gamma=interval(0.9,1.5)", "gamma=interval(0.9,1.5) may draw 1.5: gamma must be between 0 and 1; got 1.5"),
        ("schedule.epochs=int(interval(8,1))", "schedule.epochs=int(interval(8,1)): the lower end comes first"),
    ],
)
def test_what_may_be_drawn_is_checked_before_a_study(run, typed, wanted):
    code, out, err = run(*STUDY, typed, "sweep_dir=study")
    assert (code, out) == (2, "") and wanted in one_line(err) and created() == []


def test_a_run_that_cannot_begin_is_a_failed_trial(run):
    """The same command draws other values, and does not repeat what was refused."""
    typed = [text for text in STUDY if not text.startswith("batch_size=")]
    for count in (1, 2):
        code, _, err = run(*typed, "batch_size=int(interval(40,80))", "sweep_dir=study")
        assert code == 2 and "batch_size must be a multiple of env.num_envs=8" in err
        assert all(line.startswith("rlopt: ") for line in err.splitlines()), err
        assert [state for _, state, _, _ in results()] == ["FAIL"] * count
    assert len({params["batch_size"] for params, _, _, _ in results()}) == 2


def test_a_run_that_failed_later_is_continued(run, monkeypatch):
    def broken(self: Trainer, *rest: object) -> None:
        raise UserError("the environment broke")

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", broken)
        assert run(*STUDY, "hydra.sweeper.n_trials=1", "sweep_dir=study")[0] == 2
    assert [state for _, state, _, _ in results()] == ["RUNNING"]
    assert run(*STUDY, "hydra.sweeper.n_trials=1", "sweep_dir=study")[0] == 0
    assert [state for _, state, _, _ in results()] == ["COMPLETE"]


def test_a_study_does_not_mix_two_kinds_of_numbers():
    study = optuna_sweeper.open_study(OPTIONS, create=True)
    optuna_sweeper._drawn(study, {"schedule.epochs": FloatDistribution(1, 8)})
    with pytest.raises(UserError, match="schedule.epochs: this study has drawn it otherwise .* another sweep_dir"):
        optuna_sweeper._drawn(study, {"schedule.epochs": IntDistribution(1, 8)})
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "FAIL"]


def test_the_first_trial_is_the_preset_where_that_may_be_drawn():
    space = {"optimizer.lr": FloatDistribution(1e-4, 1e-2), "schedule.epochs": IntDistribution(2, 18, step=4)}
    assert optuna_sweeper._preset(["algo=ppo"], space) == {"optimizer.lr": 3e-4, "schedule.epochs": 10}
    space["schedule.epochs"] = IntDistribution(1, 21, step=4)
    assert optuna_sweeper._preset(["algo=ppo"], space) is None
    space["schedule.epochs"] = CategoricalDistribution(["10", "20"])
    assert optuna_sweeper._preset(["algo=ppo"], space) == {"optimizer.lr": 3e-4, "schedule.epochs": "10"}


def moment(steps: int) -> SimpleNamespace:
    return SimpleNamespace(steps=steps)


def test_a_run_that_is_worse_than_the_median_is_pruned():
    """Returns 3, 4 and 5 at a quarter of the run, and then 1: below their median."""
    study = optuna_sweeper.open_study({**OPTIONS, "reports": 4}, create=True)
    run = SimpleNamespace(config=SimpleNamespace(total_steps=1000), mean_return=lambda: value)
    for value in (3.0, 4.0, 5.0):
        trial = study.ask()
        watch = optuna_sweeper.Watch(study, trial)
        for steps in (100, 250, 260, 400):
            watch.report(run, moment(steps), 4)
        assert study.trials[trial.number].intermediate_values == {1: value}  # one report at each mark
        study.tell(trial, value)
    value, watch = math.nan, optuna_sweeper.Watch(study, study.ask())
    watch.report(run, moment(500), 4)  # a run without an episode so far is not judged
    value = 1.0
    with pytest.raises(Stopped, match="pruned at step 300"):
        watch.report(run, moment(300), 4)
    assert watch.pruned


def results() -> list[tuple]:
    study = optuna.load_study(study_name="rlopt", storage="sqlite:///study/optuna.db")
    return [(t.params, t.state.name, t.value, t.intermediate_values) for t in study.trials]


def test_a_study_that_was_stopped_ends_as_one_that_was_not(run, monkeypatch, capsys):
    assert run(*STUDY, "hydra.sweeper.n_trials=5", "sweep_dir=study")[0] == 0
    whole = results()
    assert whole[0][0] == {"optimizer.lr": 3e-4, "gae_lambda": "0.95"}  # the preset
    scores = sorted(json.loads(p.read_text())["evaluation_return"] for p in Path("study").glob("*/summary.json"))
    assert len(whole) == 5 and sorted(value for _, state, value, _ in whole if state == "COMPLETE") == scores
    Path("study").rename("whole")

    update, count = Trainer._update, iter(range(1000))

    def interrupted(self: Trainer, *rest: object) -> None:
        if next(count) == 7:  # in the third trial
            raise KeyboardInterrupt
        update(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        assert run(*STUDY, "hydra.sweeper.n_trials=5", "sweep_dir=study")[0] == 130
    assert [state for _, state, _, _ in results()][2:] == ["RUNNING"]
    code, out, _ = run(*STUDY, "hydra.sweeper.n_trials=5", "sweep_dir=study")
    assert code == 0 and results() == whole
    assert "Study: " in out and "  best:      rlopt train algo=ppo " in out
    assert run(*STUDY, "hydra.sweeper.n_trials=5", "sweep_dir=study")[0] == 0 and results() == whole  # nothing is left


def test_a_run_that_diverges_is_a_failed_trial(run, monkeypatch):
    update, count = Trainer._update, iter(range(1000))

    def diverging(self: Trainer, *rest: object) -> None:
        if next(count) == 4:  # in the second trial
            raise Stopped("not finite")
        update(self, *rest)

    monkeypatch.setattr(Trainer, "_update", diverging)
    code, out, _ = run(*STUDY, "hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=none", "sweep_dir=study")
    assert code == 0 and [state for _, state, _, _ in results()] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert "Study: 2 trials done, 1 failed" in out


@pytest.mark.learning
def test_trials_run_side_by_side_in_workers():
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    typed = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=4"]
    assert cli.main([*STUDY, *typed, "sweep_dir=study"]) == 0
    assert [state for _, state, _, _ in results()].count("COMPLETE") >= 2 and len(results()) == 4
