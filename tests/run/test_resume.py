"""A run that is taken up again is the run that was never stopped, to the bit."""

import fcntl
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from rlopt import assemble, cli
from rlopt.build import resolve
from rlopt.errors import UserError
from rlopt.run import checkpoint, nan_report
from rlopt.run.agent import Agent
from rlopt.run.resume import changed
from tests import torture
from tests.probes import make_trainer
from tests.torture import differences, forked, same, scalars, summary_of, tree_of

pytestmark = pytest.mark.usefixtures("probe_environments")

SMALL = ["policy.hidden=[8]", "evaluation.episodes=2", "checkpoint.every_updates=1",
         "checkpoint.every_seconds=null", "checkpoint.keep=99"]  # fmt: skip
CASES = {
    "cartpole trpo": ("env=cartpole", "algo=trpo", "env.num_envs=4", "batch_size=40", "total_steps=200"),
    "pendulum acktr": ("env=pendulum", "algo=acktr", "env.num_envs=2", "batch_size=60", "total_steps=300"),
    "halfcheetah ppo": ("env=halfcheetah", "algo=ppo", "env.num_envs=2", "batch_size=60", "total_steps=300", "schedule.epochs=2"),
    "lqr vpg, float64": ("env=lqr", "algo=vpg", "env.num_envs=2", "batch_size=40", "total_steps=200", "dtype=float64"),
    "lunar lander ppo": ("env=lunar_lander", "algo=ppo", "env.num_envs=3", "batch_size=60", "total_steps=300", "schedule.epochs=2"),
    "two workers": ("env=pendulum", "algo=ppo", "env.num_envs=4", "batch_size=80", "total_steps=320", "workers=2"),
    "processes": ("env=pendulum", "algo=npg", "env.num_envs=2", "batch_size=40", "total_steps=120", "env.backend=async"),
    "averages and draws": ("env.id=probe/Seeded-v0", "algo=acktr", "env.num_envs=3", "batch_size=30", "total_steps=150", "averaging.kind=ema", "step.momentum=0.9"),
    "shared": ("env=cartpole", "algo=ppo", "critic=shared", "env.num_envs=4", "batch_size=40", "total_steps=200", "advantages.recompute=false"),
}  # fmt: skip


def cut(source: Path, target: Path, keep: int) -> None:
    """The folder as a crash would leave it when ``keep`` checkpoints had been written, curves going on for a while."""
    shutil.copytree(source, target)
    (target / "summary.json").unlink(missing_ok=True)
    for place in checkpoint.list_checkpoints(target / "checkpoints")[keep:]:
        shutil.rmtree(place)


def resume(run_dir: Path, *overrides: str) -> int:
    return cli.main(["resume", str(run_dir), *overrides])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a finished run of a case, made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def of(name: str, *overrides: str) -> Path:
        key = f"{name} {' '.join(overrides)}"
        if key not in made:
            made[key] = folder / str(len(made))
            make_trainer(*SMALL, *CASES[name], *overrides, f"run_dir={made[key]}").run()
        return made[key]

    return of


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, runs, name, capsys):
    if "halfcheetah" in name:
        pytest.importorskip("mujoco")
    if "lander" in name:
        pytest.importorskip("Box2D")
    whole, part = runs(name), tmp_path / "part"
    count = len(checkpoint.list_checkpoints(whole / "checkpoints"))
    assert count >= 3
    cut(whole, part, count // 2)
    assert resume(part) == 0
    assert "begin new ones" not in capsys.readouterr().err
    assert differences(part, whole) == []


def test_a_partial_episode_counts_with_all_its_steps_and_rewards(tmp_path):
    """Pendulum's episodes of 200 steps end in the fifth rollout of 48."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    make_trainer(*SMALL, "env=pendulum", "env.num_envs=2", "batch_size=96", "total_steps=480", f"run_dir={whole}").run()
    cut(whole, part, 2)
    assert resume(part) == 0
    assert [length for _, length in scalars(part)["episode/length"]] == [200]
    assert scalars(part) == scalars(whole)


def test_a_run_without_a_checkpoint_begins_again(tmp_path, runs, capsys):
    whole, part = runs("cartpole trpo"), tmp_path / "part"
    cut(whole, part, 0)
    assert resume(part) == 0
    assert "has no checkpoint yet: it begins again" in capsys.readouterr().err
    assert differences(part, whole) == []


def test_the_newest_whole_checkpoint_is_taken(tmp_path, runs, capsys):
    whole, part = runs("cartpole trpo"), tmp_path / "part"
    cut(whole, part, 3)
    tensors = part / "checkpoints/step-000000000120/tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-5] ^= 1
    tensors.write_bytes(content)
    assert resume(part) == 0
    said = capsys.readouterr().err
    assert "step-000000000120 is not a whole checkpoint" in said and "resumes at step 80" in said
    assert differences(part, whole) == []


def test_when_checkpoints_are_written_has_no_part_in_the_run(tmp_path, runs):
    often, never = runs("two workers"), tmp_path / "never"
    make_trainer(*SMALL, *CASES["two workers"], "checkpoint.every_updates=null", f"run_dir={never}").run()
    assert len(checkpoint.list_checkpoints(often / "checkpoints")) == 4
    assert len(checkpoint.list_checkpoints(never / "checkpoints")) == 1
    assert differences(often, never) == []


def test_a_finished_run_says_so_and_can_be_extended(tmp_path, runs, capsys):
    short, long = tmp_path / "short", tmp_path / "long"
    shutil.copytree(runs("cartpole trpo"), short)
    assert resume(short) == 0
    assert "is finished: trpo on CartPole-v1" in capsys.readouterr().out
    assert resume(short, "total_steps=360", "workers=2") == 0
    make_trainer(*SMALL, *CASES["cartpole trpo"], "total_steps=360", f"run_dir={long}").run()
    assert same(tree_of(short), tree_of(long)) and summary_of(short)["steps"] == 360
    of_short = {k: v for k, v in scalars(short).items() if not k.startswith("final/")}
    assert of_short == {k: v for k, v in scalars(long).items() if not k.startswith("final/")}
    assert "total_steps: 360" in (short / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["gamma=0.5"], "gamma cannot be changed in the middle of a run; resume takes total_steps, "),
        (["algo=ppo"], "algo cannot be changed"),
        (["total_steps=some"], "total_steps must be a whole number"),
        (["total_steps=1,2"], "several values are for several runs"),
        (["checkpoint.keep=0"], "checkpoint.keep must be a whole number, 1 or above"),
        (["nonsense"], "cannot read 'nonsense'"),
        (["total_steps=900"], "scheduler=LinearLR has its end at update 5"),
    ],
)
def test_what_would_change_the_past_is_refused(tmp_path, runs, capsys, overrides, said):
    run_dir = tmp_path / "run"
    cut(runs("cartpole trpo", "algo=ppo"), run_dir, 3)
    before = (run_dir / "config.yaml").read_text()
    assert resume(run_dir, *overrides) == 2
    assert said in capsys.readouterr().err
    assert (run_dir / "config.yaml").read_text() == before


def test_a_config_that_was_edited_is_refused(tmp_path, runs, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(runs("cartpole trpo"), run_dir)
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("gamma: 0.99", "gamma: 0.9"))
    assert resume(run_dir, "total_steps=400") == 2
    assert "config.yaml has gamma=0.9, and the checkpoint was made with 0.99" in capsys.readouterr().err


def test_other_versions_are_told_of(tmp_path, runs, capsys, monkeypatch):
    part = tmp_path / "part"
    cut(runs("cartpole trpo"), part, 3)
    from rlopt.run import resume as module

    monkeypatch.setattr(module, "versions", lambda: {**checkpoint.load_newest(part)[1]["versions"], "torch": "99.0"})
    assert resume(part) == 0
    assert f"saved with torch {torch.__version__.partition('+')[0]}" in capsys.readouterr().err


def test_an_environment_that_cannot_be_replayed_is_told_of_and_begins_anew(tmp_path, capsys):
    """Counter tells in every observation how many episodes it has had."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    make_trainer(
        *SMALL, "env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=20", "total_steps=60", f"run_dir={whole}"
    ).run()
    assert "probe/Counter-v0 cannot be replayed" in capsys.readouterr().err
    cut(whole, part, 2)
    assert resume(part) == 0
    assert "the episodes of environments 0, 1: these begin new ones" in capsys.readouterr().err
    lengths = [length for _, length in scalars(part)["episode/length"]]
    assert lengths[:2] == [length for _, length in scalars(whole)["episode/length"]][:2]
    assert lengths[2] == 3.5  # 3, 4 and what is left of 5: counted from the new start


@pytest.mark.parametrize(
    ("number", "workers"),
    [(signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGUSR1, 1)],
    ids=["SIGINT", "SIGTERM, workers", "SIGUSR1"],
)
def test_a_signal_drops_the_update_saves_and_says_how_to_go_on(tmp_path, runs, capsys, monkeypatch, number, workers):
    """It arrives in the middle of the third update, when the actor has learned."""
    run_dir, whole = tmp_path / "run", runs("two workers")
    overrides = [*SMALL, *CASES["two workers"], "checkpoint.every_updates=null", f"workers={workers}"]
    learn, count = Agent.learn, []

    def interrupted(self, state, batch, generator, acts=None):
        count.append(1)
        if len(count) == 3:

            def then(policy):
                acts(policy)
                signal.raise_signal(number)

            return learn(self, state, batch, generator, then)
        return learn(self, state, batch, generator, acts)

    monkeypatch.setattr(Agent, "learn", interrupted)
    before = signal.getsignal(number)
    assert cli.main(["train", *overrides, f"run_dir={run_dir}"]) == 128 + number
    assert signal.getsignal(number) is before
    said = capsys.readouterr().err
    assert "Stopped at step 160; the policy so far is saved" in said
    assert f"rlopt resume {run_dir}" in said
    assert checkpoint.load_newest(run_dir)[0] == 160
    assert resume(run_dir) == 0
    assert differences(run_dir, whole) == []


def ended(processes: list[int], seconds: float = 60) -> list[int]:
    codes: dict[int, int] = {}

    def all_have() -> bool:
        for process in processes:
            if process not in codes and (code := torture.ended(process)) is not None:
                codes[process] = code
        return len(codes) == len(processes)

    try:
        assert torture.until(all_have, seconds), codes
    finally:
        for process in processes:
            if process not in codes:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
    return [codes[process] for process in processes]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="forks, and reads /proc")
def test_a_second_interrupt_leaves_at_once_with_the_last_checkpoint_as_it_is(tmp_path, monkeypatch):
    """The first is followed by a save, which takes for ever."""
    write, begun = checkpoint._write, tmp_path / "begun"

    def slow(path: Path, content: bytes) -> None:
        if "0040" not in path.parent.name and path.name == "tensors.safetensors":
            begun.touch()
            time.sleep(600)
        write(path, content)

    monkeypatch.setattr(checkpoint, "_write", slow)
    process = forked(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"], tmp_path / "log.txt")
    try:
        assert torture.until(begun.exists, 60)
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
def test_two_ranks_stop_after_the_same_update_and_go_on_to_the_bit(tmp_path):
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
    torture.until(lambda: checkpoint.list_checkpoints(part / "checkpoints"), 60)
    os.kill(ranks[0], signal.SIGTERM)  # the other hears of it
    assert ended(ranks) == [128 + signal.SIGTERM] * 2
    step, tree = checkpoint.load_newest(part)
    assert 80 <= step < 2400 and None not in tree["environments"]
    assert "torchrun (as before) -m rlopt resume" in (tmp_path / "0.txt").read_text()
    assert ended(two_ranks(tmp_path, "resume", str(part))) == [0, 0]
    assert differences(part, whole) == []


def test_a_signal_while_a_checkpoint_is_written_waits_for_it(tmp_path, monkeypatch):
    write = checkpoint._write

    def signalled(path, content):
        if path.name == "state.json" and "0080" in path.parent.name:
            signal.raise_signal(signal.SIGTERM)
        write(path, content)

    monkeypatch.setattr(checkpoint, "_write", signalled)
    code = cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"])
    assert code == 128 + signal.SIGTERM
    assert checkpoint.load_newest(tmp_path / "run")[0] == 80


def full(monkeypatch, calls: range) -> None:
    """The disk is full at these saves."""
    save, count = checkpoint.save, iter(range(10**9))

    def failing(*arguments: Any) -> Path:
        if next(count) in calls:
            raise OSError(28, "No space left on device")
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", failing)


def test_a_full_disk_is_told_of_once_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(1, 3))
    make_trainer(*SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}").run()
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 1
    assert "the last good one is of step 40. Training goes on and tries again" in said
    names = [checkpoint.step_of(place) for place in checkpoint.list_checkpoints(tmp_path / "run/checkpoints")]
    assert names == [40, 160, 200]


def test_a_run_whose_end_cannot_be_saved_ends_with_an_error(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(3, 99))
    assert cli.main(["train", *SMALL, *CASES["cartpole trpo"], f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "the last good one is of step 120. What was trained since then is lost" in said
    assert checkpoint.load_newest(tmp_path / "run")[0] == 120


def test_a_run_that_breaks_on_a_full_disk_says_what_is_saved(tmp_path, monkeypatch, capsys):
    full(monkeypatch, range(1, 99))
    breaks = ["env.id=probe/Breaks-v0", "env.num_envs=3", "batch_size=15", "env.kwargs.how=raises",
              "env.kwargs.which=2", "env.kwargs.at=13"]  # fmt: skip
    assert cli.main(["train", *SMALL, *breaks, f"run_dir={tmp_path / 'run'}"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "after step 30; the last checkpoint is of step 15; the traceback is in" in last


def test_the_best_stays_by_the_evaluation_that_was_asked_for(tmp_path, monkeypatch):
    from rlopt.run import trainer
    from rlopt.run.evaluate import Evaluation

    returns = iter([1.0, 9.0, 3.0, 4.0, 5.0])
    monkeypatch.setattr(trainer, "evaluate", lambda *a: Evaluation([next(returns, 0.0)], [1]))
    run = make_trainer(*SMALL, *CASES["cartpole trpo"], "checkpoint.every_updates=null", "checkpoint.keep=1",
                       "evaluation.every_updates=1", f"run_dir={tmp_path}")  # fmt: skip
    run.run()
    folder = tmp_path / "checkpoints"
    assert [checkpoint.step_of(place) for place in checkpoint.list_checkpoints(folder)] == [80, 200]
    assert checkpoint.step_of(checkpoint.best(folder)) == 80
    assert scalars(tmp_path)["evaluation/return"] == [(40, 1), (80, 9), (120, 3), (160, 4), (200, 5)]


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
        assert said.endswith(f"rlopt: {run_dir} is being trained by another process, to which it is left\n")
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


@pytest.mark.parametrize(("scheduler", "refused"), [("constant", False), ("linear", True)])
def test_only_a_schedule_with_a_course_holds_a_run_to_its_end(scheduler, refused):
    """One update, which is also where the constant schedule's yaml has its end."""
    config = resolve(["algo=vpg", "batch_size=100", "total_steps=100", f"scheduler={scheduler}"])
    if refused:
        with pytest.raises(UserError, match="total_steps cannot be raised: scheduler=LinearLR"):
            changed(config, {"total_steps": 200})
    else:
        assert changed(config, {"total_steps": 200})["updates"] == 2


@pytest.mark.parametrize(("where", "steps"), [("the start", 0), ("the evaluation at the end", 200)])
def test_a_signal_before_the_first_update_or_after_the_last_loses_nothing(
    tmp_path, runs, capsys, monkeypatch, where, steps
):
    from rlopt.run import trainer

    run_dir, whole = tmp_path / "run", runs("cartpole trpo")
    module, name = (assemble, "Recorder") if steps == 0 else (trainer, "evaluate")
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


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert resume(tmp_path) == 2
    assert "is not the folder of a run: it has no config.yaml" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="forks, and reads /proc")
def test_runs_that_are_killed_resume_to_the_bit(tmp_path, monkeypatch, capsys):
    """A short form of `scripts/torture`."""
    pytest.importorskip("mujoco")
    monkeypatch.setattr(torture, "CASES", {k: (*v, "total_steps=1536") for k, v in torture.CASES.items()})
    torture.random.seed(5)
    assert torture.torture(6, tmp_path) == 0, capsys.readouterr().out


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
    nan_report.write(part, {}, {}, {}, 0)
    assert treasure.read_text() == "mine"
    assert [name for name in names if (part / name).is_symlink()] == ["error.txt"]
