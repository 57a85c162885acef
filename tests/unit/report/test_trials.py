"""The trials of a study: which options matter, the best one's command, and files that are none."""

import sqlite3

import pytest

from rlopt.errors import UserError
from rlopt.report import trials
from tests.support.studies import make_study

pytest.importorskip("optuna", reason="wants the extra optuna")


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
    (tmp_path / "one").mkdir()
    assert trials.describe(make_study(tmp_path / "one", count=1)) == "1 trial done"


def test_the_command_is_quoted_and_takes_options_alone(tmp_path):
    study = make_study(tmp_path)
    text = trials.command(study, trials.best(study))
    assert text.startswith("rlopt train algo=ppo 'policy.hidden=[8,8]' optimizer.lr=0.00") and "evil" not in text
    assert text.split()[-1] in ("optimizer=adam", "optimizer=sgd") and "--" not in text


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
