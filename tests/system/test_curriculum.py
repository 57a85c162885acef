"""A curriculum by callbacks: the environments of a run change, and a run that is killed and resumed ends the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rlopt
from rlopt.checkpoint import manager as checkpoint
from tests.support.launching import environment
from tests.support.traces import differences, rows

pytestmark = pytest.mark.usefixtures("elsewhere", "nothing_is_left")
# episodes of 25 steps, rollouts of 10: every change is in the middle of an episode, and episodes last over several
RUN: dict[str, Any] = {
    "algo": "trpo", "env": "lqr", "env.num_envs": 4, "env.kwargs.horizon": 25, "batch_size": 40, "total_steps": 400,
    "policy": {"hidden": [4]}, "critic": {"hidden": [4]}, "evaluation": {"episodes": 2},
    "checkpoint": {"every_updates": 1, "every_seconds": None},
}  # fmt: skip
SCRIPT = """
import sys
from tests.system.test_curriculum import train
if __name__ == "__main__":
    train(*sys.argv[1:])
"""


def begin(moment: Any, config: Any) -> None:
    moment.environments.call("set_noise_std", 0.01)


def harder(moment: Any, scalars: Any) -> None:
    """The noise rises with every update, and falls after every third."""
    moment.environments.call("set_noise_std", np.array([0.05 * moment.updates]))
    if moment.updates % 3 == 0:
        moment.environments.call("set_noise_std", 0.02)
    moment.record("curriculum/level", moment.updates)


def watch(moment: Any, rollout: Any) -> None:
    if moment.updates == 5:
        moment.environments.set_attr("horizon", 17)
    moment.record("curriculum/rewards", rollout.rewards.sum())


CALLS = {"on_begin": begin, "on_update": harder, "on_rollout": watch}


def train(run_dir: str, workers: str, kill: str = "none", update: str = "0") -> None:
    """Train, and end by SIGKILL where that is asked for."""

    def dying(name: str, call: Any) -> Any:
        def both(moment: Any, about: Any) -> None:
            call(moment, about)
            if name == kill and moment.updates == int(update):
                os.kill(os.getpid(), signal.SIGKILL)

        return both

    calls = {**CALLS, "on_checkpoint": lambda moment, path: None}
    rlopt.train(run_dir=run_dir, workers=int(workers), **RUN, **{k: dying(k, c) for k, c in calls.items()})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was left alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(str(folder), "1")
    return folder


@pytest.mark.parametrize("kill, update, workers", [
    ("on_checkpoint", 4, 1), ("on_rollout", 6, 1), ("on_update", 7, 2), ("on_begin", 0, 1),
    *(pytest.param(*each, marks=pytest.mark.learning)  # long, for the fast run
      for each in (("on_checkpoint", 1, 1), ("on_update", 5, 1), ("on_checkpoint", 6, 2))),
])  # fmt: skip
def test_a_killed_run_goes_on_to_the_bit(kill, update, workers, whole):
    typed = [sys.executable, "-c", SCRIPT, "here", str(workers), kill, str(update)]
    killed = subprocess.run(typed, capture_output=True, text=True, env=environment(), timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    trained = rlopt.resume("here", **CALLS)
    assert trained.summary["steps"] == 400
    assert differences(Path("here"), whole) == []


def test_workers_do_not_change_a_curriculum(whole):
    train("here", "2")
    assert differences(Path("here"), whole) == []


def test_changes_have_an_effect_when_it_is_said(whole):
    """The noise of rollout k is that of on_update two before it; on_rollout's change reaches the next one."""
    changes = checkpoint.load_newest(whole)[1]["changes"]
    assert [c["rollout"] for c in changes if c["name"] == "set_noise_std"][:5] == [0, 2, 3, 4, 4]
    assert [c["rollout"] for c in changes if c["set"]] == [6]
    recorded = rows(whole)
    levels = [row["curriculum/level"] for row in recorded if row.get("curriculum/level")]
    assert [float(level) for level in levels] == list(range(1, 11))
    assert sum(bool(row.get("curriculum/rewards")) for row in recorded) == 10


def test_the_command_line_says_that_callbacks_are_not_called(run, whole, tmp_path):
    rlopt.train(run_dir="here", on_update=harder, **{**RUN, "total_steps": 160})
    code, _, err = run("resume", "here", "total_steps=200")
    assert code == 0 and "callbacks in Python changed this run's environments, and are not called here" in err
