"""The result of a run in one line, and whether a folder holds a finished run."""

import json

import pytest

from rlopt.errors import UserError
from rlopt.training.continuing import read_run, result_line, saved_result

SUMMARY = {"algo": "ppo", "env": "CartPole-v1", "seed": 3, "steps": 4096, "steps_per_second": 1234.5}
EVALUATED = {
    "evaluation_return": 450.0, "evaluation_std": None, "evaluation_cut": 2,
    "sampled_evaluation_return": 300.0, "sampled_evaluation_std": 20.0,
}  # fmt: skip


def test_a_result_is_one_line():
    assert result_line(SUMMARY) == "ppo on CartPole-v1, seed 3: 4,096 steps at 1,234 steps/s"
    line = result_line(SUMMARY | EVALUATED)
    assert "evaluation return 450.0 +- nan (mode, 2 episodes cut off), 300.0 +- 20.0 (sampled); 4,096" in line


@pytest.mark.parametrize("text", [None, "", "[]", "{}", json.dumps(SUMMARY | {"steps": "many"})])
def test_a_folder_without_a_whole_summary_is_not_finished(tmp_path, text):
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    assert saved_result(tmp_path) is None
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    assert saved_result(tmp_path) == result_line(SUMMARY)


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(UserError, match="is not the folder of a run: it has no config.yaml"):
        read_run(tmp_path, [], print)
