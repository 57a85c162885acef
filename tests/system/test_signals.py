"""A signal ends a run after it was saved, on every rank; a second one ends it at once."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rlopt import files
from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.cli import process
from rlopt.errors import Signalled
from rlopt.loggers.csv import CSVWriter
from rlopt.training import signals as stops
from rlopt.training.agent import Agent
from rlopt.training.signals import SignalHandler
from rlopt.training.trainer import Trainer
from tests.support import torture
from tests.support.launching import until
from tests.support.resuming import CASES, SMALL, chosen, cut, resume
from tests.support.torture import forked
from tests.support.traces import differences, tree_of

pytestmark = pytest.mark.usefixtures("probe_environments")


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGUSR1, 1), (signal.SIGHUP, 1)],
    ids=["SIGINT", "SIGTERM, workers", "SIGUSR1", "SIGHUP"],
)
def test_a_signal_drops_the_update_saves_and_says_how_to_go_on(
    tmp_path, runs, capsys, monkeypatch, request, number, workers
):
    """It arrives in the middle of the third update, when the actor has learned."""
    run_dir, whole = tmp_path / "run", runs("two workers")
    overrides = chosen(*SMALL, *CASES["two workers"], "checkpoint.every_updates=null", f"workers={workers}")
    learn, count = Agent.learn, []

    def interrupted(self, state, batch, generator, on_policy_ready=None):
        count.append(1)
        if len(count) == 3:

            def then(policy):
                on_policy_ready(policy)
                signal.raise_signal(number)

            return learn(self, state, batch, generator, then)
        return learn(self, state, batch, generator, on_policy_ready)

    monkeypatch.setattr(Agent, "learn", interrupted)
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    outside = signal.signal(number, usual)  # nohup, where the tests were started by it, ignores SIGHUP
    request.addfinalizer(lambda: signal.signal(number, outside))
    before = signal.getsignal(number)
    assert cli.main(["train", *overrides, f"run_dir={run_dir}"]) == 128 + number
    assert signal.getsignal(number) is before
    said = capsys.readouterr().err
    assert "Stopped at step 160; the policy so far is saved" in said
    assert f"rlopt resume {run_dir}" in said
    assert checkpoint.load_newest(run_dir)[0] == 160
    assert resume(run_dir) == 0
    assert differences(run_dir, whole) == []


def test_an_interrupt_does_not_wait_for_the_end_of_a_pass(tmp_path, capsys):
    """An update of a million passes over the data ends within two seconds."""
    long = [
        "algo=ppo",
        "env=cartpole",
        "schedule.epochs=1000000",
        "env.num_envs=2",
        "batch_size=256",
        "total_steps=256",
    ]
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(3, interrupt)
    timer.start()
    try:
        assert cli.main(["train", *long, f"run_dir={tmp_path / 'run'}"]) == 128 + signal.SIGINT
    finally:
        timer.cancel()
    assert time.monotonic() - sent[0] < 2
    assert "Stopped at step 0" in capsys.readouterr().err


def test_a_signal_while_curves_are_written_loses_nothing(tmp_path, runs, capsys, monkeypatch):
    """It arrives when the table is being written anew, for a scalar that comes up in the third update."""
    run_dir, append = tmp_path / "run", CSVWriter.append

    def signalled(self: CSVWriter, values: Any, step: int) -> None:
        if step == 120:
            signal.raise_signal(signal.SIGTERM)
        append(self, {**values, **({"new": 1.0} if step == 120 else {})}, step)

    with monkeypatch.context() as patch:
        patch.setattr(CSVWriter, "append", signalled)
        overrides = chosen(*SMALL, *CASES["cartpole trpo"], "checkpoint.every_updates=null")
        assert cli.main(["train", *overrides, f"run_dir={run_dir}"]) == 128 + signal.SIGTERM
    assert "Stopped at step 80; the policy so far is saved" in capsys.readouterr().err
    assert (run_dir / "scalars.csv").read_text().splitlines()[-1].startswith("120,")
    assert resume(run_dir) == 0
    assert tree_of(run_dir)["steps"] == 200


def test_a_run_without_a_terminal_goes_on_where_that_was_wished():
    """As nohup wishes."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stops = SignalHandler()
        with stops.installed():
            signal.raise_signal(signal.SIGHUP)
        assert stops.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("command", ["train", "resume"])
def test_an_interrupt_while_processes_are_forked_is_remembered(tmp_path, runs, monkeypatch, command):
    """Python drops what is raised between a fork and its hooks."""
    run_dir, made = tmp_path / "run", process.build

    def losing(*arguments: Any) -> Any:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return made(*arguments)

    if command == "resume":
        cut(runs("cartpole trpo"), run_dir, keep=1)
    typed = ["resume", str(run_dir)] if command == "resume" else ["train", *SMALL, f"run_dir={run_dir}"]
    monkeypatch.setattr(process, "build", losing)
    monkeypatch.setattr(Trainer, "_update", lambda *_: pytest.fail("the run has begun"))
    assert cli.main(typed) == 128 + signal.SIGINT


def test_a_signal_in_the_middle_of_a_fork_comes_after_it():
    with SignalHandler().installed(), pytest.raises(Signalled):
        stops._before_fork()
        signal.raise_signal(signal.SIGTERM)
        stops._after_fork_in_parent()
        time.sleep(60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_child_processes_ignore_group_signals_and_can_be_ended():
    with SignalHandler().installed():
        child = os.fork()
        if not child:
            try:
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
                    signal.raise_signal(number)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def ended(processes: list[int], seconds: float = 60) -> list[int]:
    codes: dict[int, int] = {}

    def all_have() -> bool:
        for process in processes:
            if process not in codes and (code := torture.ended(process)) is not None:
                codes[process] = code
        return len(codes) == len(processes)

    try:
        assert until(all_have, seconds), codes
    finally:
        for process in processes:
            if process not in codes:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
    return [codes[process] for process in processes]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="forks, and reads /proc")
def test_a_second_interrupt_exits_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    """The first is followed by a save, which takes for ever."""
    write, begun = files._write, tmp_path / "begun"

    def slow(path: Path, content: bytes) -> None:
        if path.name.startswith(".step-") and "0040" not in path.name:
            begun.touch()
            time.sleep(600)
        write(path, content)

    monkeypatch.setattr(files, "_write", slow)
    process = forked(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"], tmp_path / "log.txt")
    try:
        assert until(begun.exists, 60)
        os.kill(process, signal.SIGINT)
        time.sleep(0.7)
        assert torture.ended(process) is None
        os.kill(process, signal.SIGINT)
    finally:
        code = ended([process], 10)
    assert code == [128 + signal.SIGINT]
    assert checkpoint.load_newest(tmp_path / "run")[0] == 40


def two_ranks(folder: Path, *arguments: str) -> list[int]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        where = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": s.getsockname()[1]}
    return [forked(list(arguments), folder / f"{i}.txt", RANK=i, LOCAL_RANK=i, **where) for i in range(2)]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="forks, and reads /proc")
@pytest.mark.learning  # long, and what test_ranks stops is in the fast run
def test_two_ranks_stop_after_one_update_and_resume_to_the_bit(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    overrides = [
        *SMALL,
        "env=pendulum",
        "algo=trpo",
        "env.num_envs=4",
        "batch_size=80",
        "total_steps=2400",
        "workers=2",
    ]
    assert ended(two_ranks(tmp_path, "train", *overrides, f"run_dir={whole}")) == [0, 0]
    ranks = two_ranks(tmp_path, "train", *overrides, f"run_dir={part}")
    until(lambda: checkpoint.list_checkpoints(part / "checkpoints"), 60)
    os.kill(ranks[0], signal.SIGTERM)  # the other hears of it
    assert ended(ranks) == [128 + signal.SIGTERM] * 2
    step, tree = checkpoint.load_newest(part)
    assert 80 <= step < 2400 and None not in tree["environments"]
    assert "torchrun (as before) -m rlopt resume" in (tmp_path / "0.txt").read_text()
    assert ended(two_ranks(tmp_path, "resume", str(part))) == [0, 0]
    assert differences(part, whole) == []


def test_a_signal_while_a_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    write = files._write

    def signalled(path, content):
        if path.name.startswith(".step-000000000080"):
            signal.raise_signal(signal.SIGTERM)
        write(path, content)

    monkeypatch.setattr(files, "_write", signalled)
    code = cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"])
    assert code == 128 + signal.SIGTERM
    assert checkpoint.load_newest(tmp_path / "run")[0] == 80


@pytest.mark.parametrize(("where", "steps"), [("the start", 0), ("the evaluation at the end", 200)])
def test_a_signal_before_or_after_all_updates_loses_nothing(tmp_path, runs, capsys, monkeypatch, where, steps):
    from rlopt.training import evaluator, trainer

    run_dir, whole = tmp_path / "run", runs("cartpole trpo")
    module, name = (trainer, "Logger") if steps == 0 else (evaluator, "evaluate")
    function = getattr(module, name)

    def signalled(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, signalled)
        code = cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={run_dir}"])
    assert code == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert f"Stopped at step {steps}; the policy so far is saved" in said and "Traceback" not in said
    assert checkpoint.load_newest(run_dir)[0] == steps
    assert resume(run_dir) == 0
    assert differences(run_dir, whole) == []
