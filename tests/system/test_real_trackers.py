"""record.tracker with the real packages, offline: they hold what scalars.csv holds. Skipped where one is absent."""

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.launching import environment
from tests.support.traces import rows
from tests.support.tracked import READERS

pytestmark = pytest.mark.usefixtures("elsewhere")
OPTIONS = [
    "batch_size=100", "total_steps=600", "env.num_envs=4", "policy.hidden=[4]", "critic.hidden=[4]", "run_dir=here",
    "evaluation.episodes=2", "evaluation.every_updates=2", "checkpoint.every_updates=2",
    "checkpoint.every_seconds=null", "record.project=mine", "record.names=sb3",
]  # fmt: skip
TRAIN = """
import os, sys
from rlopt.cli.main import main
from rlopt.training.agent import Agent

learn, count = Agent.learn, []

def stopped(*given):
    count.append(1)
    if len(count) == 4:
        os.kill(os.getpid(), int(sys.argv[1]))
    return learn(*given)

Agent.learn = stopped
sys.exit(main(["train", *sys.argv[2:]]))
"""


@pytest.fixture(params=READERS)
def kind(request, monkeypatch):
    """Nothing is sent to anywhere, and everything lies in the working folder."""
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    here = Path.cwd()
    settings = {
        "HOME": here, "WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": (here / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true", "TRACKIO_DIR": here / "trackio",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    return request.param


def python(*typed: object) -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, typed)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)


def held(kind: str) -> dict[str, dict[int, list[float]]]:
    """What the package holds, but for what it has of the summary."""
    read = python("-m", "tests.support.tracked", kind, "here")
    assert read.returncode == 0, read.stderr
    found = json.loads(read.stdout.splitlines()[-1])
    return {n: {int(k): v for k, v in steps.items()} for n, steps in found.items() if not n.startswith("final/")}


def recorded() -> dict[str, dict[int, list[float]]]:
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows(Path("here")):
        for name, value in row.items():
            if value and name != "step":
                found.setdefault(name, {}).setdefault(int(row["step"]), []).append(float(value))
    return found


def train_and_resume(kind: str, number: signal.Signals) -> None:
    """It is stopped in the fourth of six updates."""
    stopped = python("-c", TRAIN, int(number), f"record.tracker={kind}", *OPTIONS)
    assert stopped.returncode == (128 + number if number == signal.SIGTERM else -number), stopped.stderr
    resumed = python("-m", "rlopt", "resume", "here")
    assert resumed.returncode == 0, resumed.stderr
    said = stopped.stderr + resumed.stderr
    assert "record.tracker" not in said, said


def test_a_stopped_run_goes_on_and_every_number_is_there_once(kind):
    train_and_resume(kind, signal.SIGTERM)
    wanted, found = recorded(), held(kind)
    assert len(wanted) > 30 and set(wanted["eval/mean_reward"]) == {200, 400, 600}
    assert found == wanted


def test_a_killed_run_goes_on_and_lacks_nothing_from_then(kind):
    """The process ends in the update after a checkpoint; rows between the two may be there twice, but for MLflow."""
    train_and_resume(kind, signal.SIGKILL)
    wanted, found = recorded(), held(kind)
    for name in wanted:
        for step, values in wanted[name].items():
            sent = found[name].get(step, [])
            if name.startswith("time/"):
                assert len(sent) == 1 or step <= 300
            else:
                assert sent == values or (kind != "mlflow" and step <= 300 and set(sent) <= set(values)), (name, step)
    assert set(found) == set(wanted)
