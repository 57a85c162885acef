"""record.tracker: a run's record in stand-ins for the trackers; tests/system/test_real_trackers.py has the real ones."""

import json
import os
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

import rlopt
from rlopt.errors import Signalled, UserError
from rlopt.loggers import trackers
from rlopt.training.evaluator import Evaluator
from tests.support.launching import environment
from tests.support.traces import rows
from tests.support.tracking import MODULES, Kept

pytestmark = pytest.mark.usefixtures("elsewhere")
RUN: dict[str, Any] = {
    "batch_size": 40, "total_steps": 200, "env.num_envs": 4, "policy": {"hidden": [4]}, "critic": {"hidden": [4]},
    "evaluation": {"episodes": 2, "every_updates": 2}, "checkpoint": {"every_updates": 2, "every_seconds": None},
}  # fmt: skip
SCRIPT = """
import sys
from tests.unit.loggers.test_trackers import train_and_die
if __name__ == "__main__":
    train_and_die(sys.argv[1])
"""


def stand_in(kind: str) -> Kept:
    """Put the stand-in in the tracker's place."""
    kept = Kept(Path("kept.jsonl").absolute())
    module = MODULES[kind](kept)
    module.__spec__ = ModuleSpec(kind, None)
    sys.modules[kind] = module
    return kept


def train_and_die(kind: str) -> None:
    """To the middle of the update after a checkpoint."""
    stand_in(kind)

    def die(moment: Any, scalars: Any) -> None:
        if moment.updates == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    rlopt.train(record={"tracker": kind, "names": "sb3"}, run_dir="here", on_update=die, **RUN)


@pytest.fixture(params=MODULES)
def kind(request):
    yield request.param
    sys.modules.pop(request.param, None)


def check_scalars(kept: Kept, run_dir: Path) -> None:
    """Every number of scalars.csv is there once, but for times, and nothing else."""
    sent = {n: s for n, s in kept.scalars().items() if not n.startswith(("final/", "time/"))}
    recorded: dict[str, dict[int, list[float]]] = {}
    for row in rows(run_dir):
        for name, value in row.items():
            if value and name != "step" and not name.startswith("time/"):
                recorded.setdefault(name, {}).setdefault(int(row["step"]), []).append(float(value))
    assert sent == recorded


def test_a_run_is_there_as_in_its_folder(kind):
    kept = stand_in(kind)
    pytest.importorskip("imageio")
    trained = rlopt.train(record={"tracker": kind, "video_steps": 5, "project": "mine"}, run_dir="here", **RUN)
    check_scalars(kept, trained.run_dir)
    [(id, _, about, config)] = kept.rows("init")
    assert about["project"] == "mine" and about["name"].startswith("here")
    flat = config or {k: v for row in kept.rows("config") for k, v in row[2].items()}
    assert "4" in json.dumps(flat.get("policy.hidden", flat.get("policy")))
    assert len(kept.rows("video")) == 1
    if kind != "trackio":
        assert kept.rows("policy")[0][2] == ["step-000000000200.safetensors"]
    score = trained.summary["evaluation_return"]
    last = kept.rows("summary")[0][2] if kind == "wandb" else {k.removeprefix("final/"): v[200][0] for k, v in kept.scalars().items() if k.startswith("final/")}  # fmt: skip
    assert last["evaluation_return"] == score
    assert kept.rows("end") == [[id, "end", "FINISHED" if kind == "mlflow" else 0]]


def test_a_killed_run_goes_on_and_sends_nothing_twice(kind):
    typed = [sys.executable, "-c", SCRIPT, kind]
    killed = subprocess.run(typed, capture_output=True, text=True, env=environment(), timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = stand_in(kind)
    assert {step for steps in kept.scalars().values() for step in steps} == {40, 80, 120}
    rlopt.resume("here")
    first, second = kept.rows("init")
    assert first[0] == second[0] and second[2].get("resume") in ("allow", "RUNNING")
    sent = kept.scalars()
    for name, steps in sent.items():
        for step, values in steps.items():
            # but for MLflow, the last row before the kill may be there twice, and is the same
            again = kind != "mlflow" and step == 120 and (len(set(values)) == 1 or name.startswith("time/"))
            assert len(values) == 1 or again
    assert set(sent["episode/length"]) <= {40, 80, 120, 160, 200} and set(sent["train/approx_kl"]) == {
        40,
        80,
        120,
        160,
        200,
    }
    assert set(sent["eval/mean_reward"]) == {80, 160}


def test_a_run_stopped_in_an_evaluation_sends_each_row_once(kind, monkeypatch):
    """The first row of the update is sent by then, and the second is not."""
    kept, evaluate = stand_in(kind), Evaluator.after_update

    def stopped(self: Evaluator, updates: int, *given: Any) -> Any:
        if updates == 4:
            raise Signalled(signal.SIGTERM)
        return evaluate(self, updates, *given)

    with monkeypatch.context() as patch, pytest.raises(Signalled):
        patch.setattr(Evaluator, "after_update", stopped)
        rlopt.train(record={"tracker": kind}, run_dir="here", **RUN)
    assert max(kept.scalars()["episode/length"]) == 160
    rlopt.resume("here")
    check_scalars(kept, Path("here"))
    assert set(kept.scalars()["evaluation/return"]) == {80, 160}


def test_a_tracker_that_fails_does_not_end_the_run(kind, capsys, monkeypatch):
    stand_in(kind)

    class Broken:
        id = "x"

        def __init__(self, *_: Any):
            pass

        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("gone")

    monkeypatch.setitem(trackers.BACKENDS, kind, Broken)
    trained = rlopt.train(record={"tracker": kind}, run_dir="here", **RUN)
    assert trained.summary["steps"] == 200
    assert capsys.readouterr().err.count("fails: ConnectionError: gone. Training goes on") == 1


def test_what_cannot_begin_is_told_before_training(kind, monkeypatch):
    stand_in(kind)

    def refuse(*_: Any) -> Any:
        raise ValueError("no account")

    monkeypatch.setitem(trackers.BACKENDS, kind, refuse)
    with pytest.raises(UserError, match=f"record.tracker={kind} cannot begin: ValueError: no account"):
        rlopt.train(record={"tracker": kind}, run_dir="here", **RUN)
    assert not Path("here").exists()


def test_an_absent_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"record.tracker=wandb needs a package .* pip install 'rlopt-geometry\[wandb\]'"
    ):
        rlopt.train(record={"tracker": "wandb"}, run_dir="here", **RUN)
    assert not Path("here").exists()


def test_other_trackers_are_refused():
    with pytest.raises(UserError, match="record.tracker must be one of wandb, mlflow, trackio; got 'comet'"):
        rlopt.train("record.tracker=comet")
