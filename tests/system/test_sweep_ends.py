"""The end of a sweep whose runs are in other processes: told to end, or killed, it loses nothing of them."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import sweep_run
from rlopt.errors import Signalled
from rlopt.training.run_directory import try_lock
from tests.support.launching import ended, environment, until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(sweep_run, "_PARENT_INTERVAL", 0.01)
    monkeypatch.setattr(sweep_run, "_sweep_process", None)
    monkeypatch.setattr(sweep_run, "_signal_received", None)


LONG = (
    "train -m seed=0,1,2 sweep_dir=here hydra/launcher=joblib hydra.launcher.n_jobs=2 total_steps=400000 "
    "batch_size=64 env.num_envs=2 policy.hidden=[8] critic.hidden=[8] checkpoint.every_updates=10"
)


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return child


def run(lock: Path, saved: Path, sweep: int) -> None:
    """What holds the lock until it is told to end, and then takes a while to save."""

    def save(number: int, frame: object) -> None:
        time.sleep(0.2)
        saved.touch()
        raise Signalled(number)

    signal.signal(signal.SIGTERM, save)
    with sweep_run.run_lock(lock, sweep):
        time.sleep(60)


def held(lock: Path) -> bool:
    with lock.open("a+") as file:
        return not try_lock(file.fileno())


def test_a_sweep_that_must_end_waits_until_its_runs_have_saved(tmp_path):
    sweeps = {"a": os.getpid(), "b": os.getpid(), "another's": os.getppid()}
    runs = [forked(lambda n=n, s=s: run(tmp_path / f"{n}.lock", tmp_path / n, s)) for n, s in sweeps.items()]
    try:
        nobodys = f"{os.uname().nodename} {runs[2]} {os.getpid()}\n"  # a number that is another process's by now
        (tmp_path / "done.lock").write_text(nobodys)
        assert until(lambda: sum(bool(p.read_text()) for p in tmp_path.glob("*.lock")) == 4, 10)
        with sweep_run.run_lock(tmp_path / "own.lock", os.getpid()) as mine:  # a run in the sweep's own process
            assert mine
            sweep_run.end_workers(tmp_path)
        assert {n: (tmp_path / n).exists() for n in sweeps} == {"a": True, "b": True, "another's": False}
        assert held(tmp_path / "another's.lock") and not held(tmp_path / "a.lock")
    finally:
        for process in runs:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def test_a_run_whose_sweep_was_killed_saves_and_leaves(tmp_path):
    lock, saved = tmp_path / "a.lock", tmp_path / "saved"

    def in_a_worker(sweep: int) -> None:
        sweep_run.watch_sweep(os.uname().nodename, sweep)
        try:
            run(lock, saved, sweep)
        except Signalled as signalled:
            sweep_run.remember_signal(signalled.number)

    def sweep() -> None:
        mine = os.getpid()
        forked(lambda: in_a_worker(mine))
        time.sleep(60)

    process = forked(sweep)
    assert until(lambda: lock.exists() and lock.read_text(), 10) and not saved.exists()
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    assert until(lambda: not held(lock), 10)
    assert saved.exists()


def test_no_run_begins_in_a_process_that_was_told_to_end():
    here = os.uname().nodename, os.getpid()  # another's than the parent's
    sweep_run.watch_sweep(*here)
    sweep_run.remember_signal(signal.SIGTERM)
    with pytest.raises(Signalled) as raised:
        sweep_run.watch_sweep(*here)
    assert pickle.loads(pickle.dumps(raised.value)).number == signal.SIGTERM


@pytest.mark.learning
def test_a_killed_worker_ends_the_sweep_in_one_line(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = subprocess.Popen([sys.executable, "-m", "rlopt", *LONG.split()], cwd=tmp_path, env=environment(), text=True,
                             stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    lock = tmp_path / "here" / ".sweep" / "seed=0.lock"
    with ended(sweep):
        assert until(lambda: checkpoint.list_checkpoints(tmp_path / "here" / "seed=0" / "checkpoints"), 120)
        os.kill(int(lock.read_text().split()[1]), signal.SIGKILL)
        _, errors = sweep.communicate(timeout=30)
    assert sweep.returncode == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("rlopt: ")]
    assert "one of the processes that train was killed" in line and "sweep_dir=here continues" in line
    assert until(lambda: not held(lock), 10)


@pytest.mark.learning
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_joblibs_processes_save_when_the_sweep_ends(tmp_path, number):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = subprocess.Popen([sys.executable, "-m", "rlopt", *LONG.split()], cwd=tmp_path, env=environment(),
                             start_new_session=True)  # fmt: skip
    runs = [tmp_path / "here" / f"seed={seed}" for seed in (0, 1)]
    assert until(lambda: all(checkpoint.list_checkpoints(run / "checkpoints") for run in runs), 120)
    locks = tmp_path / "here" / ".sweep"
    assert held(locks / "seed=0.lock") and held(locks / "seed=1.lock")
    sweep.send_signal(number)
    assert sweep.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    assert until(lambda: not any(map(held, locks.glob("*.lock"))), 30)
    for run_dir in runs:
        assert f"saved in here/{run_dir.name}" in (locks / f"{run_dir.name}.log").read_text()
