"""rlopt train -m: a run for every choice, its mistakes told before the first begins, and its end."""

import json
import os
import signal
from pathlib import Path

import gymnasium as gym
import pytest
import torch
import yaml

from rlopt.checkpoint import manager as checkpoint
from rlopt.errors import EnvironmentFault
from rlopt.training.trainer import Trainer
from tests.support.command_line import SHORT, created, one_line

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize(
    "typed", ["gamma=2", "gamme=1,2", "seed=0,1 gamma=abc", "algo=ppo,tpro", "seed=0,1 step.rate=3"]
)
def test_a_mistake_with_several_runs_is_told_before_any_begins(run, typed):
    code, out, err = run("train", "-m", *typed.split())
    assert code == 2
    assert all(line.startswith("rlopt: ") for line in err.splitlines()) and err
    assert not any(path.endswith(("config.yaml", "checkpoints")) for path in created())


@pytest.mark.parametrize("typed, wanted", [
    ("hydra=null", "hydra=null: hydra is a group of options, such as hydra/launcher=joblib"),
    ("hydra.sweeper=null", "hydra.sweeper=null cannot be begun"),
    ("hydra.launcher=3", "hydra.launcher=3 cannot be begun"),
    ("hydra/launcher=nowhere", "hydra/launcher/nowhere"),
    ("hydra.foo=2", "hydra.foo=2 cannot be begun: there is no option hydra.foo\n"),
    ("hydra.launcher.foo=2", "there is no option hydra.launcher.foo\n"),
    ("hydra.job.num=a", "hydra.job.num=a cannot be begun: Value 'a' of type 'str' could not be converted to Integer\n"),
    ("hydra/launcher=basic,joblib", "hydra/launcher=basic,joblib cannot be begun: Sweeping over Hydra's configuration"),
    ("gamma=interval(0,1)", "gamma=interval(0,1): only a sweeper that draws (hydra/sweeper=...) takes a range"),
])  # fmt: skip
def test_what_hydra_cannot_do_with_several_runs_is_one_line(run, typed, wanted):
    code, out, err = run("train", "-m", "seed=0,1", *typed.split())
    assert (code, out) == (2, "")
    assert err.startswith("rlopt: ") and wanted in err and len(err.splitlines()) == 1
    assert created() == []


@pytest.mark.parametrize("typed", ["gamme=0.5", "gamme=0.5,0.6"])
def test_a_mistake_that_all_runs_share_leaves_nothing(run, typed):
    code, out, err = run("train", "-m", "seed=0,1", typed)
    assert (code, out) == (2, "")
    assert "did you mean gamma" in one_line(err)
    assert created() == []


def test_a_later_runs_mistake_is_reported_before_any_begins(run):
    code, out, err = run("train", "-m", "step=trust_region,fixed", "step.radius=0.1", *SHORT)
    assert (code, out) == (2, "")
    assert "step.radius has no effect" in one_line(err)
    assert not any("trpo" in path for path in created())


def test_several_runs_take_preconditioners_by_name(run):
    assert run("train", "-m", "solver.preconditioner=none,diagonal", *SHORT)[0] == 0
    configs = [yaml.safe_load(path.read_text()) for path in Path("runs").glob("sweep-*/*/config.yaml")]
    assert sorted((config["solver"]["preconditioner"] or {}).get("method", "") for config in configs) == ["", "exact"]


def test_multirun_runs_once_for_every_choice_of_critic_parts(run):
    code, out, _ = run(
        "train", "-m", "critic.metric=identity,fisher", "critic.solver=cg", "critic.step=trust_region", *SHORT
    )
    assert code == 0
    configs = [yaml.safe_load(path.read_text()) for path in Path("runs").glob("sweep-*/*/config.yaml")]
    assert sorted(config["critic"]["metric"]["_target_"].split(".")[-1] for config in configs) == ["Fisher", "Identity"]
    assert len(list(Path("runs").glob("sweep-*/*/summary.json"))) == 2
    assert "--- critic.metric=identity critic.solver=cg" in out and "--- critic.metric=fisher critic.solver=cg" in out


def test_multirun_is_the_same_as_its_runs_one_by_one(run):
    assert run("train", "--multirun", "seed=1,2", *SHORT)[0] == 0
    summaries = [json.loads(path.read_text()) for path in Path("runs").glob("sweep-*/*/summary.json")]
    assert sorted(summary["seed"] for summary in summaries) == [1, 2]
    assert run("train", "seed=2", "run_dir=alone", *SHORT)[0] == 0
    together = next(Path("runs").glob("sweep-*/seed=2"))
    (_, a), (_, b) = checkpoint.load_newest(Path("alone")), checkpoint.load_newest(together)
    assert torch.equal(a["agent"]["actor"]["theta"], b["agent"]["actor"]["theta"])


def test_multirun_goes_on_after_a_fault_and_returns_its_code(run, monkeypatch):
    train = Trainer.run

    def faulty(self: Trainer) -> dict:
        if self.config.seed == 1:
            raise EnvironmentFault("the simulator broke")
        return train(self)

    monkeypatch.setattr(Trainer, "run", faulty)
    code, _, err = run("train", "-m", "seed=1,2", *SHORT)
    assert code == 2
    assert "rlopt: the simulator broke" in err
    assert len(list(Path("runs").glob("sweep-*/*/summary.json"))) == 1


@pytest.mark.parametrize("typed, wanted", [
    ("seed=1,abc", "seed must be a whole number; got 'abc'"),
    ("gamma=0.9,2", "gamma must be between 0 and 1"),
    ("env.num_envs=4,3 batch_size=40,41", "batch_size must be a multiple of env.num_envs"),
    ("env.id=CartPole-v1,Nope-v0", "env.id=Nope-v0: Environment `Nope` doesn't exist"),
    ("env.id=Dying-v0", "its environment ended the process that made it, with exit code 3"),
    ("env=cartpole,humanoid policy=mlp,nature_cnn critic=mlp", "policy=nature_cnn"),
    ("seed=range(0)", "seed=range(0) holds no value"),
    ("seed=0,1 sweep_dir=", "sweep_dir=: all runs go into one folder"),
    ("seed=0,1 seed=2", "seed is given twice"),
    ("seed=0,1 run_dir=", "run_dir="),
])  # fmt: skip
def test_every_mistake_in_several_runs_is_told_beforehand(run, typed, wanted):
    gym.register("Dying-v0", lambda **_: os._exit(3))
    try:
        code, out, err = run("train", "-m", *typed.split())
    finally:
        del gym.registry["Dying-v0"]
    assert (code, out) == (2, "")
    assert wanted in one_line(err)
    assert created() == []


def test_multirun_ends_when_it_is_interrupted(run, monkeypatch):
    def interrupted(self: Trainer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "run", interrupted)
    code, out, _ = run("train", "-m", "seed=1,2,3", *SHORT)
    assert code == 128 + signal.SIGINT
    assert out.count("---") == 1
