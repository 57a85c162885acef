"""Several runs in one folder: named by what varies, skipped when done, gone on with when not, here and elsewhere."""

import argparse
import fcntl
import importlib.util
import json
import signal
from pathlib import Path

import pytest
import torch

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.cli.sweep_run import Sweep
from rlopt.training.trainer import Trainer
from tests.support.extending import FILES, write

SHORT = ["total_steps=120", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "evaluation.episodes=2"]
SWEEP = ["train", "-m", "sweep_dir=here", *SHORT]


@pytest.fixture(autouse=True)
def _handlers_are_given_back(elsewhere):
    handler = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == handler


def done() -> dict[str, int]:
    """Run -> when its summary was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in Path("here").glob("*/summary.json")}


def theta(run_dir: str) -> torch.Tensor:
    return checkpoint.load_newest(Path(run_dir))[1]["agent"]["actor"]["theta"]


def test_runs_are_named_by_what_varies_and_done_once(run):
    code, out, _ = run(*SWEEP, "seed=1,2")
    assert code == 0 and out.splitlines()[-1] == "All runs are in here"
    first = done()
    assert set(first) == {"seed=1", "seed=2"}
    code, out, _ = run(*SWEEP, "seed=3,2,1")
    assert code == 0 and out.count("done before") == 2
    assert {name: done()[name] for name in first} == first and set(done()) - set(first) == {"seed=3"}


def test_names_tell_all_that_varies_and_no_two_are_one():
    sweep = Sweep(lambda typed: 0, Path("here"), ["algo", "critic.metric", "env.id", "policy.hidden"], (), ())
    names = [
        sweep.name(["seed=1", "policy.hidden=[8]", "algo=vpg", "critic.metric=fisher", f"env.id={name}"])
        for name in ("a/b", "a-b", "a%2Fb", "../b", "a b,c", *(("x" * 200 + y) for y in "12"))
    ]
    assert names[1] == "algo=vpg,critic.metric=fisher,env.id=a-b,policy.hidden=[8]"
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name) < 200 for name in names)
    assert Sweep(lambda typed: 0, Path("here"), [], (), ()).name(["seed=1"]) == "run"


def test_an_interrupted_sweep_goes_on_where_it_stopped(run, monkeypatch):
    update = Trainer._update

    def interrupted(self: Trainer, *rest: object) -> None:
        if self.config.seed == 2 and self.updates == 2:
            raise KeyboardInterrupt
        update(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", interrupted)
        code, _, err = run(*SWEEP, "seed=1,2,3")
    assert code == 128 + signal.SIGINT
    assert "The same command with sweep_dir=here continues where this one stopped." in err
    first = done()
    assert set(first) == {"seed=1"} and not Path("here/seed=3").exists()

    code, out, err = run(*SWEEP, "seed=1,2,3")
    assert code == 0 and out.count("done before") == 1 and "resumes at step 80" in err
    assert done().keys() == {"seed=1", "seed=2", "seed=3"} and done()["seed=1"] == first["seed=1"]
    assert run("train", "seed=2", "run_dir=alone", *SHORT)[0] == 0
    assert torch.equal(theta("here/seed=2"), theta("alone"))


def test_a_run_that_was_killed_at_its_first_file_is_taken_up(run):
    Path("here/seed=1").mkdir(parents=True)
    Path("here/seed=1/.config.yaml.4711").write_text("half")
    assert run(*SWEEP, "seed=1,2")[0] == 0
    assert set(done()) == {"seed=1", "seed=2"} and not list(Path("here").glob("*/.config.yaml.*"))


def test_a_sweep_that_was_moved_goes_on(run):
    assert run(*SWEEP, "seed=1,2")[0] == 0
    Path("here").rename("there")
    code, out, _ = run(*SWEEP[:2], "sweep_dir=there", *SHORT, "seed=1,2")
    assert code == 0 and out.count("done before") == 2


def test_a_folder_of_other_runs_is_refused(run):
    assert run(*SWEEP, "seed=1,2")[0] == 0
    before = done()
    code, _, err = run(*SWEEP, "seed=1,2", "gamma=0.9")
    assert code == 2 and done() == before
    assert "here/seed=1 holds another run: there gamma is 0.99, now 0.9; give another sweep_dir" in err


def test_a_run_that_another_process_trains_is_left_to_it(run):
    Path("here/.sweep").mkdir(parents=True)
    with Path("here/.sweep/seed=1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = run(*SWEEP, "seed=1,2")
    assert code == 2 and "here/seed=1 is being trained by another process" in err
    assert set(done()) == {"seed=2"}


@pytest.mark.parametrize(
    "typed, wanted",
    [
        (["sweep_dir=here"], "sweep_dir=here: a folder of several runs, `rlopt train -m`; for one it is run_dir=..."),
        (
            ["-m", "seed=0,1", "run_dir=here"],
            "run_dir=here: run_dir is for one run; several go into the folder sweep_dir",
        ),
        (["-m", "seed=0,1", "sweep_dir=a,b"], "sweep_dir=a,b: all runs go into one folder"),
    ],
)
def test_folders_that_cannot_be_meant_are_refused(run, typed, wanted):
    code, out, err = run("train", *typed)
    assert (code, out) == (2, "") and wanted in err and len(err.splitlines()) == 1
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(run):
    Path("here").write_text("")
    code, _, err = run(*SWEEP, "seed=0,1")
    assert code == 2 and "here" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
def test_an_absent_launcher_is_named_with_the_extra_to_install(run, monkeypatch, launcher):
    def find_spec(name: str) -> None:
        if "." in name:  # as Python does where there is no package around it
            raise ModuleNotFoundError(f"No module named {name.partition('.')[0]!r}")

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    code, out, err = run("train", "-m", "seed=0,1", f"hydra/launcher={launcher}")
    assert (code, out) == (2, "")
    assert "pip install 'rlopt-geometry[sweep]'" in err and len(err.splitlines()) == 1


def test_hydras_help_is_not_checked_as_python_3_14_does(run, monkeypatch):
    """argparse then refuses a help text that is made when it is shown, as Hydra 1.3's is."""
    add = argparse.ArgumentParser._add_action

    def check_and_add(self, action):
        self._check_help(action)
        return add(self, action)

    help_of = lambda self, action: "%" in (action.help or "")  # noqa: E731
    monkeypatch.setattr(argparse._ActionsContainer, "_check_help", help_of, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "_add_action", check_and_add)
    checked = argparse.ArgumentParser._check_help
    assert run(*SWEEP, "seed=1,2")[0] == 0 and argparse.ArgumentParser._check_help is checked


def test_joblib_trains_in_processes_what_one_process_trains(capfd):
    """With parts of one's own; one folder is another run's, and the others are done nevertheless."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    write(Path("my_parts"), FILES)
    typed = ["--extensions", "my_parts", "solver=mine", "env=mine", "gamma=0.9,0.95,0.99"]
    assert cli.main(["train", "run_dir='here/gamma=0.95'", *SHORT]) == 0
    code = cli.main([*SWEEP, *typed, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"])
    assert code == 2
    told = capfd.readouterr().err
    assert "rlopt: gamma=0.95 ended with exit code 2" in told and "Error executing" not in told
    assert set(done()) == {"gamma=0.9", "gamma=0.95", "gamma=0.99"}
    assert "steps/s" in Path("here/.sweep/gamma=0.9.log").read_text()
    assert cli.main(["train", "run_dir=alone", *typed[:-1], "gamma=0.9", *SHORT]) == 0
    assert torch.equal(theta("here/gamma=0.9"), theta("alone"))


@pytest.mark.learning
def test_submitit_trains_in_a_job(run):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    typed = ["seed=4", "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
    assert run(*SWEEP, *typed)[0] == 0
    assert json.loads(Path("here/run/summary.json").read_text())["seed"] == 4
    assert list(Path("here/.submitit").glob("*/*_result.pkl"))
