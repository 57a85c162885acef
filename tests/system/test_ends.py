"""However a run ends, it leaves a checkpoint and its curves, and nothing open."""

import pytest

from rlopt.cli import main as cli
from rlopt.errors import EnvironmentFault, Stopped
from rlopt.loggers.logger import Logger
from rlopt.rollout.collector import Collector
from rlopt.training.agent import Agent
from tests.support.training import NAN, saved, scalars, start

pytestmark = pytest.mark.usefixtures("probe_environments")


def test_a_failed_first_reset_is_reported_like_a_later_failure(tmp_path):
    run = start(tmp_path, "env.id=probe/Raises-v0", "env.num_envs=4", "batch_size=20", "env.kwargs.at=0")
    with pytest.raises(EnvironmentFault, match="RuntimeError: the simulator did not start, after step 0"):
        run.run()
    assert saved(tmp_path)[0] == 0


def test_a_failed_environment_leaves_a_checkpoint_and_curves(tmp_path):
    run = start(tmp_path, "env.id=probe/Raises-v0", "env.num_envs=4", "batch_size=20", "env.kwargs.at=13")
    with pytest.raises(EnvironmentFault, match="RuntimeError: the simulator broke, after step 40"):
        run.run()
    assert "RuntimeError: the simulator broke" in (tmp_path / "error.txt").read_text()
    step, tree = saved(tmp_path)
    assert (step, tree["updates"]) == (40, 2)
    assert [step for step, _ in scalars(tmp_path)["step/kl"]] == [20, 40]


def test_out_of_memory_is_one_line_and_leaves_a_checkpoint(tmp_path, monkeypatch, capsys):
    learn, count = Agent.learn, []

    def growing(*arguments):
        count.append(1)
        if len(count) == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return learn(*arguments)

    monkeypatch.setattr(Agent, "learn", growing)
    sizes = ["batch_size=40", "total_steps=160", "policy.hidden=[4]", "critic.hidden=[4]"]
    assert cli.main(["train", *sizes, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "rlopt: the run does not fit into memory; lower batch_size" in capsys.readouterr().err
    assert saved(tmp_path / "run")[0] == 80


@pytest.mark.parametrize("ends", ["well", "stopped", "failed"])
def test_logger_and_environments_are_closed_however_a_run_ends(tmp_path, monkeypatch, ends):
    closed = []
    close_recorder, close_collector = Logger.close, Collector.close
    monkeypatch.setattr(Logger, "close", lambda self: (closed.append("recorder"), close_recorder(self)))
    monkeypatch.setattr(Collector, "close", lambda self: (closed.append("collector"), close_collector(self)))
    if ends == "well":
        start(tmp_path).run()
    elif ends == "stopped":
        with pytest.raises(Stopped):
            start(tmp_path, *NAN, "env.kwargs.what=reward", "env.kwargs.since=1", "max_bad_updates=1").run()
    else:
        with pytest.raises(EnvironmentFault):
            start(tmp_path, "env.id=probe/Raises-v0", "env.num_envs=4", "batch_size=20", "env.kwargs.at=13").run()
    assert closed == ["collector", "recorder"]


def test_an_interrupted_run_leaves_a_checkpoint_and_its_curves(tmp_path):
    run = start(tmp_path)
    learn, count = run.agent.learn, []

    def interrupted(*arguments):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return learn(*arguments)

    run.agent.learn = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert saved(tmp_path)[0] == 160
    assert [step for step, _ in scalars(tmp_path)["step/kl"]] == [80, 160]
