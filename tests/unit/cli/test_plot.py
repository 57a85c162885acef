"""rlopt plot, and what it refuses."""

from pathlib import Path

from rlopt.cli import main as cli
from tests.support.recorded import LINE

SHORT = ["total_steps=800", "batch_size=400", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]


def test_real_runs_are_plotted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in "01":
        assert cli.main(["train", *SHORT, f"seed={seed}", f"run_dir=r/{seed}"]) == 0
    capsys.readouterr()
    assert cli.main(["plot", "r/0", "r", "--axis", "both", "--centre", "iqm", "--interval", "bootstrap"]) == 0
    assert "CartPole-v1, trpo: seeds 0, 1" in capsys.readouterr().out
    assert Path("curves.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["plot", "r/0", "--scalar", "policy/entropy", "--out", "e.svg"]) == 0
    assert Path("e.svg").read_text().count("<svg") == 1


def test_absent_packages_are_named(write_run, tmp_path, monkeypatch, capsys):
    write_run("a", LINE)
    find_spec = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "scipy" else find_spec(name, *rest)
    )
    assert cli.main(["plot", str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == "rlopt: rlopt plot needs scipy: pip install 'rlopt-geometry[plot]', or scripts/bootstrap plot for a clone's .venv\n"
    )
