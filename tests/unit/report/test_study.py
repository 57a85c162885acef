"""A study on the report's page: its figures and what to type."""

import numpy as np
import pytest

from rlopt.cli import main as cli
from rlopt.report import study as drawing
from rlopt.report import trials
from tests.support.recorded import LINE
from tests.support.studies import make_study

optuna = pytest.importorskip("optuna", reason="wants the extra optuna")


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
