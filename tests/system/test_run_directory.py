"""The folder of a run: one process trains it at a time, and no link leads out of it."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.training.failure_policy import write_report
from tests.support.resuming import CASES, SMALL, cut, resume

pytestmark = pytest.mark.usefixtures("probe_environments")


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Another process trains this run: a lock of another opened file is another's."""
    descriptor = os.open(run_dir, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path, runs, capsys):
    part, empty = tmp_path / "part", tmp_path / "empty"
    cut(runs("cartpole trpo"), part, 2)
    empty.mkdir()
    for run_dir, arguments in ((part, ["resume", str(part)]), (empty, ["train", *SMALL, f"run_dir={empty}"])):
        with locked(run_dir):
            assert cli.main(arguments) == 2
        said = capsys.readouterr().err
        assert said.endswith(f"rlopt: {run_dir} is being trained by another process; it is left to that one\n")
    assert list(empty.iterdir()) == []


def test_a_run_holds_its_lock_to_its_end(tmp_path, monkeypatch, capsys):
    save, said = checkpoint.save, []

    def resumed_meanwhile(*arguments: Any) -> Path:
        said.append(resume(tmp_path / "run"))
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", resumed_meanwhile)
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"]) == 0
    assert said == [2] * 5
    assert resume(tmp_path / "run") == 0


def test_a_run_goes_on_where_there_are_no_locks(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(9, "Bad file descriptor")  # of NFS, for a folder

    monkeypatch.setattr(fcntl, "flock", none)
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"]) == 0


LEFT = [".config.yaml.4711", ".scalars.csv.1", ".summary.json.99"]  # by processes that were killed while they wrote


@pytest.mark.parametrize("names", [[], LEFT[:1], LEFT], ids=len)
def test_a_folder_with_unfinished_files_alone_is_free(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("half")
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path}"]) == 0
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", [".config.yaml", ".mine.4711", "config.yaml.4711", ".config.yaml.4711x"])
def test_a_folder_with_anything_else_is_in_use(tmp_path, capsys, name):
    for other in (name, LEFT[0]):
        (tmp_path / other).write_text("mine")
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path}"]) == 2
    assert "is in use" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, LEFT[0]])


def test_a_resumed_run_removes_what_was_left_unfinished(tmp_path, runs):
    part = tmp_path / "part"
    cut(runs("cartpole trpo"), part, 2)
    for name in [*LEFT, ".mine.4711"]:
        (part / name).write_text("half")
    assert resume(part) == 0
    assert [path.name for path in part.iterdir() if path.name.startswith(".")] == [".mine.4711"]


class Wandering(CartPoleEnv):
    """Changes the working directory whenever it is reset."""

    def reset(self, **how: Any) -> Any:
        os.chdir(tempfile.mkdtemp(dir=os.environ["WANDERING"]))
        return super().reset(**how)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_environment_that_changes_the_folder_moves_no_file(tmp_path, monkeypatch, capsys, workers):
    gym.register("Wandering-v0", Wandering, max_episode_steps=20)
    (tmp_path / "away").mkdir()
    monkeypatch.setenv("WANDERING", str(tmp_path / "away"))
    typed = [*SMALL, "env.id=Wandering-v0", "env.num_envs=4", "batch_size=40", "total_steps=120", f"workers={workers}"]
    try:
        monkeypatch.chdir(tmp_path)
        assert cli.main(["train", *typed, "run_dir=here"]) == 0
        os.chdir(tmp_path)
        assert cli.main(["resume", "here", "total_steps=160"]) == 0
        os.chdir(tmp_path)
        assert cli.main(["eval", "here", "--episodes=1"]) == 0
        os.chdir(tmp_path)
        assert cli.main(["train", "-m", *typed, "sweep_dir=several", "seed=1,2"]) == 0
    finally:
        del gym.registry["Wandering-v0"]
        os.chdir(tmp_path)
    assert not [path for path in (tmp_path / "away").rglob("*") if path.is_file()]
    assert {p.name.partition(".")[0] for p in (tmp_path / "here").iterdir()} == {
        "checkpoints", "config", "events", "scalars", "summary"}  # fmt: skip
    assert [checkpoint.load_newest(tmp_path / d)[0] for d in ("here", "several/seed=1", "several/seed=2")] == [
        160,
        120,
        120,
    ]


def test_a_linked_folder_of_checkpoints_is_refused(tmp_path, runs, capsys):
    part = tmp_path / "part"
    cut(runs("cartpole trpo"), part, 2)
    (part / "checkpoints").rename(tmp_path / "elsewhere")
    (part / "checkpoints").symlink_to(tmp_path / "elsewhere")
    capsys.readouterr()
    for command in ("resume", "eval"):
        assert cli.main([command, str(part)]) == 2
        assert capsys.readouterr().err.startswith(f"rlopt: {part / 'checkpoints'} is a link; put the folder")
    with pytest.raises(OSError, match="it is a link"):
        checkpoint.save(part / "checkpoints", 900, {}, keep=1)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 2


def test_what_a_resumed_run_writes_follows_no_link(tmp_path, runs):
    """In a stranger's folder one may lead anywhere."""
    part, treasure = tmp_path / "part", tmp_path / "treasure"
    cut(runs("cartpole trpo"), part, 4)
    treasure.write_text("mine")
    names = ["summary.json", "nan_report.json", "error.txt", "scalars.csv"]
    for name in names:
        (part / name).unlink(missing_ok=True)
        (part / name).symlink_to(treasure)
    assert resume(part) == 0
    write_report(part, {}, {}, {}, 0)
    assert treasure.read_text() == "mine"
    assert [name for name in names if (part / name).is_symlink()] == ["error.txt"]
