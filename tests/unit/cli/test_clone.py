"""`rlopt clone`: its flags, and what its run leaves."""

import numpy as np
import pytest

from rlopt.cli.main import main


@pytest.mark.parametrize(("flags", "said"), [
    (["--updates", "0"], "--updates must be 1 or above"),
    (["--held-out", "1"], "--held-out must be 0 or above and below 1"),
    (["--updates", "x"], "invalid int value"),
])  # fmt: skip
def test_flags_out_of_range_are_refused(capsys, flags, said):
    assert main(["clone", "data.npz", *flags]) == 2
    assert said in capsys.readouterr().err


def test_progress_is_kept_and_a_folder_in_use_is_not_touched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", observations=np.zeros((8, 4), np.float32), actions=np.ones(8, int))
    typed = [
        "clone",
        "data.npz",
        "env=cartpole",
        "--updates",
        "3",
        "batch_size=64",
        "evaluation.episodes=2",
        "run_dir=run",
    ]
    assert main(typed) == 0
    rows = (tmp_path / "run/cloning.csv").read_text().splitlines()
    assert rows[0] == "update,log_prob,held_out_log_prob" and len(rows) == 4
    assert float(rows[3].split(",")[1]) > float(rows[1].split(",")[1])
    assert "evaluation return" in capsys.readouterr().out
    assert main(typed) == 2 and "run_dir=run is in use" in capsys.readouterr().err
