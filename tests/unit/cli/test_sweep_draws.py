"""A sweeper that draws values: what it is told of a run, and what Optuna's is told beforehand."""

import importlib.util
import json
import math
from pathlib import Path

import pytest

from rlopt.cli import sweep
from rlopt.cli.sweep_run import Sweep
from tests.support.command_line import SHORT

pytestmark = pytest.mark.usefixtures("elsewhere")
OPTUNA = bool(importlib.util.find_spec("hydra_plugins")) and bool(
    importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper")
)


def test_a_score_is_of_the_evaluation_or_of_training():
    runs = Sweep(lambda overrides: 0, Path.cwd(), ["seed"], (), ())
    folder = Path("seed=1")
    folder.mkdir()
    assert math.isnan(runs.score(["seed=1"]))
    for summary, score in (({"return_mean": 3.5}, 3.5), ({"return_mean": 3.5, "evaluation_return": 7}, 7.0),
                           ({"return_mean": None, "evaluation_return": None}, math.nan)):  # fmt: skip
        (folder / "summary.json").write_text(json.dumps(summary))
        assert runs.score(["seed=1"]) == pytest.approx(score, nan_ok=True)


def test_optuna_maximises_and_keeps_its_trials():
    here = Path("study").absolute()
    told = sweep._study(["hydra/sweeper=optuna", "seed=1"], here)
    assert "hydra.sweeper.direction=maximize" in told and any(f"sqlite:///{here}/optuna.db" in text for text in told)
    told = sweep._study(
        ["hydra/sweeper=optuna", "hydra.sweeper.direction=minimize", "hydra.sweeper.storage=null"], here
    )
    assert told == ["hydra.sweeper.study_name=rlopt"]
    assert sweep._study(["seed=1,2"], here) == []


def test_the_best_trial_is_spelled_as_it_is_typed():
    path = Path("optimization_results.yaml")
    path.write_text("best_params:\n  +critic__step__optimizer__lr: 0.1\n  +damping__value: 2\nbest_value: 1.0\n")
    sweep._spell_as_typed(path)
    assert path.read_text() == "best_params:\n  critic.optimizer.lr: 0.1\n  damping.value: 2\nbest_value: 1.0\n"


@pytest.mark.skipif(OPTUNA, reason="the plugin is installed")
def test_an_absent_plugin_is_named_with_its_extra(run):
    code, _, err = run("train", "-m", "seed=1,2", "hydra/sweeper=optuna", *SHORT)
    assert code == 2 and "pip install 'rlopt-geometry[optuna]'" in err and len(err.splitlines()) == 1


@pytest.mark.skipif(not OPTUNA, reason="wants the extra optuna")
def test_a_study_maximises_the_return_and_goes_on(run):
    import optuna

    typed = ["train", "-m", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "algo=ppo", "hydra/sweeper=optuna",
             "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=2", "sweep_dir=study", *SHORT]  # fmt: skip
    for count in (2, 4):
        assert run(*typed)[0] == 0
        study = optuna.load_study(study_name="rlopt", storage="sqlite:///study/optuna.db")
        found = sorted(json.loads(p.read_text())["evaluation_return"] for p in Path("study").glob("*/summary.json"))
        assert sorted(trial.value for trial in study.trials) == found and len(found) == count
        assert study.best_value == max(found)
