"""Whole runs of environments that are tensors, and what is done with them afterwards."""

import json
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

import rlopt
from rlopt.cli import main as cli
from rlopt.envs.tensor.task import TaskEnvs
from rlopt.errors import EnvironmentFault
from tests.support import torture
from tests.support.probes import make_trainer
from tests.support.tensors import Drift, Simulator

SMALL = ["env.num_envs=16", "batch_size=160", "total_steps=480", "policy.hidden=[8]", "critic.hidden=[8]",
         "evaluation.episodes=2"]  # fmt: skip


@pytest.fixture
def drift():
    """An id with tensors alone."""
    gym.register("test/Drift-v0", vector_entry_point=Drift.envs, max_episode_steps=20)
    yield "test/Drift-v0"
    del gym.registry["test/Drift-v0"]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("choice", ["env=cartpole env.backend=tensor", "env.id=test/Drift-v0 env.kwargs={}"])
def test_a_run_is_evaluated_inspected_and_loaded(drift, run, choice):
    code, out, err = run("train", *choice.split(), "algo=trpo", *SMALL, "evaluation.every_updates=2", "run_dir=here")
    assert code == 0, err
    summary = json.loads(Path("here/summary.json").read_text())
    assert summary["steps"] == 480 and summary["evaluation_return"] is not None
    assert "cannot be replayed" not in err and "new episodes" not in err
    assert run("eval", "here", "--episodes", "2")[0] == 0
    assert run("inspect", "here", "--samples", "40", "--metric", "fisher", "--solver", "cg")[0] == 0
    assert run("resume", "here", "total_steps=640")[0] == 0
    policy = rlopt.load("here")
    size = 4 if "cartpole" in choice else 1
    action = policy(np.zeros(size, np.float32))
    assert action in (0, 1) if "cartpole" in choice else -2 <= action[0] <= 2


@pytest.mark.usefixtures("elsewhere")
def test_a_video_is_drawn_by_gymnasiums_environment(run):
    pytest.importorskip("pygame")
    pytest.importorskip("imageio_ffmpeg")
    code, _, err = run("train", "env=cartpole", "env.backend=tensor", *SMALL, "record.video_steps=4", "run_dir=here")
    assert code == 0 and "no video" not in err


def test_a_video_of_tensors_alone_is_refused(drift, run, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    code, _, err = run("train", f"env.id={drift}", "record.video_steps=4", f"run_dir={tmp_path / 'here'}")
    assert code == 2 and "cannot be drawn: it has no render mode rgb_array" in err


def test_tensors_that_hang_are_named(tmp_path, monkeypatch):
    step = TaskEnvs.step

    def hangs(self, actions):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 13:
            time.sleep(5)
        return step(self, actions)

    monkeypatch.setattr(TaskEnvs, "step", hangs)
    run = make_trainer("env=cartpole", "env.backend=tensor", *SMALL, "env.timeout=0.3", f"run_dir={tmp_path}")
    with pytest.raises(EnvironmentFault, match=r"the environment, at its step 13, has not come back for .*0.3 seconds"):
        run.run()


def test_numbers_that_are_not_finite_are_found(tmp_path, monkeypatch):
    step = TaskEnvs.step

    def spoils(self, actions):
        found = step(self, actions)
        return found._replace(observation=torch.full_like(found.observation, torch.inf))

    monkeypatch.setattr(TaskEnvs, "step", spoils)
    run = make_trainer("env=cartpole", "env.backend=tensor", *SMALL, f"run_dir={tmp_path}")
    batch = run.collector.collect(run.agent.policy(run.state))
    after, result = run.agent.learn(run.state, batch, run.minibatches)
    assert result.failure == "observation" and after is run.state


def test_a_simulator_without_a_state_says_what_a_resume_does(tmp_path, capsys):
    gym.register("test/Simulator-v0", vector_entry_point=Simulator)
    try:
        typed = ["env.id=test/Simulator-v0", "algo=trpo", *SMALL, f"run_dir={tmp_path / 'run'}"]
        make_trainer(*typed).run()
        said = (
            "test/Simulator-v0 has no state() and restore(state): if this run is stopped and resumed, its environments"
        )
        assert said in capsys.readouterr().err
        assert cli.main(["resume", str(tmp_path / "run"), "total_steps=640"]) == 0
        assert "these begin new ones" in capsys.readouterr().err
    finally:
        del gym.registry["test/Simulator-v0"]


def test_runs_that_are_killed_resume_to_the_bit(tmp_path, monkeypatch, capsys):
    """As in test_resume, of tensors alone."""
    cases = {name: (*typed, "total_steps=1536") for name, typed in torture.CASES.items() if "tensor" in name}
    monkeypatch.setattr(torture, "CASES", cases)
    torture.random.seed(5)
    assert torture.torture(3, tmp_path) == 0, capsys.readouterr().out
