"""Finished runs that several files of tests share, each made once."""

from pathlib import Path

import pytest

from rlopt.cli import main as cli
from tests.probes import make_trainer
from tests.run import inspecting, resuming


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder of a finished run of a case, made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def of(name: str, *overrides: str) -> Path:
        key = f"{name} {' '.join(overrides)}"
        if key not in made:
            made[key] = folder / str(len(made))
            make_trainer(*resuming.SMALL, *resuming.CASES[name], *overrides, f"run_dir={made[key]}").run()
        return made[key]

    return of


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A run to go on with, with every file that a run directory may hold."""
    run_dir = tmp_path_factory.mktemp("template") / "run"
    small = ["batch_size=80", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=1"]
    saved = ["checkpoint.every_updates=1", "checkpoint.keep=2"]
    assert cli.main(["train", *small, *saved, "env=cartpole", "total_steps=160", f"run_dir={run_dir}"]) == 0
    (run_dir / "checkpoints" / "step-000000000160.safetensors").unlink()
    for name in ("nan_report.json", "error.txt"):
        (run_dir / name).write_text("{}")
    return run_dir


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A run of three updates on each environment."""
    found = {}
    for name, overrides in inspecting.RUNS.items():
        found[name] = tmp_path_factory.mktemp(name) / "run"
        make_trainer(*inspecting.SMALL, *overrides, f"run_dir={found[name]}").run()
    return found
