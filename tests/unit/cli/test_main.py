"""The command line: where a run goes, what it tells, how it ends, and what is printed without one."""

import re
import signal
import sys
import traceback
from pathlib import Path

import pytest

from rlopt import __version__
from rlopt.checkpoint import manager as checkpoint
from rlopt.config import choices as catalogue
from tests.support.command_line import SHORT, chosen, created, one_line

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_a_run_directory_in_use_is_left_alone(run):
    Path("here").mkdir()
    Path("here/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    for name in ("here", "file"):
        code, _, err = run("train", f"run_dir={name}", *SHORT)
        assert code == 2
        assert f"run_dir={name} is in use; give another" in one_line(err)
    assert created() == ["file", "here", "here/notes.txt"]


def test_an_empty_run_directory_is_taken(run):
    Path("here").mkdir()
    assert run("train", "run_dir=here", *SHORT)[0] == 0
    assert {"here/config.yaml", "here/summary.json", "here/checkpoints"} <= set(created())


def test_a_run_directory_that_cannot_be_made_is_refused(run):
    Path("file").write_text("")
    code, _, err = run("train", "run_dir=file/run", *SHORT)
    assert code == 2
    assert "run_dir=file/run" in one_line(err)


def test_a_run_tells_its_result_and_what_to_type_next(run):
    code, out, err = run("train", "run_dir=here", "seed=3", *SHORT)
    assert code == 0
    assert out.startswith("trpo on CartPole-v1, seed 3: evaluation return ")
    assert "--logdir here" in out and "eval here" in out
    assert "40 / 40 steps" in err


def test_an_old_version_of_an_environment_is_warned_of_once(run, monkeypatch):
    monkeypatch.setattr("rlopt.envs.spec._made", set())
    with pytest.warns(DeprecationWarning, match="CartPole-v0") as warned:
        assert run("train", "env.id=CartPole-v0", "env.num_envs=4", *SHORT)[0] == 0
    assert len(warned) == 1


def test_an_environment_with_its_own_id_is_itself(run):
    assert run("train", "--cfg", "env=cartpole", "env.id=CartPole-v1")[1] == run("train", "--cfg")[1]


def test_runs_go_to_folders_of_their_own(run):
    for _ in range(2):
        assert run("train", *SHORT)[0] == 0
    folders = [path.name for path in Path("runs").iterdir()]
    assert len(folders) == 2
    assert all(name.startswith("trpo-cartpole-s0-") for name in folders)


def test_an_interrupted_run_exits_with_the_signals_code(run, monkeypatch):
    from rlopt.rollout.collector import Collector

    def terminated(self: Collector) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Collector, "finish", terminated)
    code, out, err = run("train", "run_dir=here", *SHORT)
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert "Stopped at step 0; the policy so far is saved" in err
    assert "Traceback" not in err
    assert "here/checkpoints/step-000000000000.safetensors" in created()


def test_a_raising_environment_is_one_line_and_a_traceback_file(run, monkeypatch):
    from gymnasium.envs.classic_control import CartPoleEnv

    step, count = CartPoleEnv.step, []

    def breaking(self: CartPoleEnv, action: object) -> object:
        if not any(frame.filename.endswith("trial.py") for frame in traceback.extract_stack()):
            count.append(1)
        if len(count) > 50:
            raise RuntimeError("the simulator broke\nbadly")
        return step(self, action)

    monkeypatch.setattr(CartPoleEnv, "step", breaking)
    code, _, err = run("train", "run_dir=here", *chosen(*SHORT, "total_steps=400"))
    line = err.splitlines()[-1]
    assert code == 2
    assert line.startswith("rlopt: environment 2, at its step 7, raised RuntimeError: the simulator broke")  # the 51st
    assert "after step 40" in line and "error.txt" in line
    assert "Traceback" not in err
    assert "in breaking" in Path("here/error.txt").read_text()
    assert checkpoint.load_newest(Path("here"))[0] == 40


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_help_tells_the_commands(run, arguments):
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert all(f"rlopt {command}" in out for command in ("train", "eval", "--version"))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_train_help_lists_every_choice_of_every_group(run, flag):
    code, out, err = run("train", flag)
    assert (code, err) == (0, "")
    sections = dict(re.findall(r"^(\w+)=.*\n((?:  .*\n)*)", out, re.MULTILINE))
    for group, names in catalogue.groups().items():
        if names:
            listed = [line.split()[0] for line in sections[group].splitlines()]
            assert listed == names, group
    assert created() == []


def test_help_of_a_preset_tells_its_parts_and_its_values(run):
    code, out, err = run("train", "--help", "algo=acktr")
    assert (code, err) == (0, "")
    assert {"objective=log_prob", "solver=acktr", "damping=acktr", "step=acktr", "critic.metric=gauss_newton",
            "critic.damping=constant", "critic=mlp", "batch_size=1024"} <= set(out.split())  # fmt: skip
    assert "  metric=sampled_fisher        fisher, estimated from one action drawn for every state\n" in out
    assert len(out.splitlines()) < 20 and "policy=" not in out
    assert "  critic=episodic " in run("train", "--help", "algo=enac")[1]
    assert "solver=" not in run("train", "--help", "algo")[1]  # a line or two for each of them


def test_version_is_told(run):
    assert run("--version") == (0, f"rlopt {__version__}\n", "")


@pytest.mark.parametrize(
    "command, hint", [("trian", "did you mean train"), ("evl", "did you mean eval"), ("zzz", "--help")]
)
def test_an_unknown_command_is_refused(run, command, hint):
    code, out, err = run(command)
    assert (code, out) == (2, "")
    assert f"no command '{command}'" in one_line(err) and hint in err


def test_cfg_prints_the_whole_configuration_and_nothing_else(run):
    code, out, err = run("train", "--cfg", "seed=7", "algo=ppo")
    assert (code, err) == (0, "")
    assert "seed: 7" in out and "algo: ppo" in out and "${" not in out
    assert created() == []


def test_the_module_can_be_run(run, monkeypatch):
    import runpy

    monkeypatch.setattr(sys, "argv", ["rlopt", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("rlopt", run_name="__main__")
    assert ended.value.code == 0
