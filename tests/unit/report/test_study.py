"""A study on the report's page: what matters, the best options, and files that are none."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from rlopt.cli import main as cli
from rlopt.errors import UserError
from rlopt.report import study as drawing
from rlopt.report import trials
from tests.support.recorded import LINE

optuna = pytest.importorskip("optuna", reason="wants the extra optuna")


def make_study(folder: Path, count: int = 30, direction: str = "maximize") -> "optuna.Study":
    """Of three options the first decides the value, and the last is text; one trial was pruned."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="rlopt", storage=f"sqlite:///{folder}/optuna.db", direction=direction,
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip
    study.set_user_attr("fixed", ["algo=ppo", "policy.hidden=[8,8]", "--extensions", "--import=evil"])

    def value(trial: "optuna.Trial") -> float:
        x = trial.suggest_float("optimizer.lr", 1e-4, 1e-2, log=True)
        trial.suggest_float("gamma", 0.9, 0.99)
        trial.suggest_categorical("optimizer", ["adam", "sgd"])
        if trial.number == 3:
            raise optuna.TrialPruned
        return -abs(np.log10(x) + 3)

    study.optimize(value, count)
    return study


def test_the_option_that_decides_is_the_most_important(tmp_path):
    make_study(tmp_path)
    study = trials.load(tmp_path)
    shares = trials.importance(study)
    assert next(iter(shares)) == "optimizer.lr" and shares["optimizer.lr"] > 0.5
    assert sum(shares.values()) == pytest.approx(1) and set(shares) == {"optimizer.lr", "gamma", "optimizer"}
    assert trials.describe(study) == "29 trials done, 1 pruned"


def test_too_few_or_equal_trials_say_nothing_of_importance(tmp_path):
    study = make_study(tmp_path, count=3)
    assert trials.importance(study) == {}
    for _ in range(5):
        study.tell(study.ask(), 1.0)
    assert trials.best(study).value == 1.0
    assert trials.load(tmp_path / "elsewhere") is None


def test_the_command_is_quoted_and_takes_options_alone(tmp_path):
    study = make_study(tmp_path)
    text = trials.command(study, trials.best(study))
    assert text.startswith("rlopt train algo=ppo 'policy.hidden=[8,8]' optimizer.lr=0.00") and "evil" not in text
    assert text.split()[-1] in ("optimizer=adam", "optimizer=sgd") and "--" not in text


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_lines_and_bars_are_of_the_trials(tmp_path, direction):
    study = make_study(tmp_path, direction=direction)
    done = [t for t in study.trials if t.value is not None]
    pick = max if direction == "maximize" else min
    (panel,) = drawing.history(study).axes
    assert panel.lines[1].get_ydata()[-1] == pick(t.value for t in done)
    (panel,) = drawing.parallel(study).axes
    top = next(line for line in panel.lines if line.get_color() == "#b34700").get_ydata()
    low, high = min(t.value for t in done), max(t.value for t in done)
    assert top[-1] == pytest.approx((study.best_value - low) / (high - low))
    rates = np.log10([t.params["optimizer.lr"] for t in done])
    best = np.log10(study.best_params["optimizer.lr"])
    assert top[0] == pytest.approx((best - rates.min()) / np.ptp(rates))
    shares = trials.importance(study)
    (panel,) = drawing.bars(shares).axes
    assert [bar.get_width() for bar in panel.patches] == list(shares.values())


def test_the_report_has_the_study_and_what_to_type(write_run, tmp_path, capsys):
    write_run("a", LINE, score=7.0)
    make_study(tmp_path)
    assert cli.main(["report", str(tmp_path)]) == 0
    page, said = (tmp_path / "report.html").read_text(), capsys.readouterr().out
    assert "<h2>Study: 29 trials done, 1 pruned</h2>" in page and "Importance of each option" in page
    assert "rlopt train algo=ppo &#x27;policy.hidden=[8,8]&#x27;" in page
    assert "    rlopt train algo=ppo 'policy.hidden=[8,8]'" in said
    assert "    rlopt train algo=ppo 'policy.hidden=[8,8]'" in (tmp_path / "report.md").read_text()


def test_a_study_without_a_trial_that_is_done_is_a_heading(tmp_path):
    study = optuna.create_study(storage=f"sqlite:///{tmp_path}/optuna.db", study_name="rlopt")
    study.ask()
    assert drawing.section(study) == ["<h2>Study: 0 trials done, 1 not at their end</h2>"]


def test_a_file_that_is_no_study_is_one_line_and_unchanged(tmp_path):
    path = tmp_path / "optuna.db"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="is no study of Optuna's"):
        trials.load(tmp_path)
    assert path.read_bytes() == b"nothing"
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("create table mine (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="is no study of Optuna's"):
        trials.load(tmp_path)
    assert path.read_bytes() == before
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="is no regular file"):
        trials.load(tmp_path)
