"""A run that is taken up again is the run that was never stopped, to the bit."""

import shutil
from pathlib import Path

import pytest

from rlopt.checkpoint import manager as checkpoint
from tests.support import torture
from tests.support.probes import make_trainer
from tests.support.resuming import CASES, SMALL, cut, resume
from tests.support.traces import differences, same, scalars, summary_of, tree_of

pytestmark = pytest.mark.usefixtures("probe_environments")


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
    tensors = part / "checkpoints/step-000000000120.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-5] ^= 1
    tensors.write_bytes(content)
    assert resume(part) == 0
    said = capsys.readouterr().err
    assert "step-000000000120.safetensors is not a whole checkpoint" in said and "resumes at step 80" in said
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


def test_an_environment_without_replay_is_reported_and_restarts(tmp_path, capsys):
    """Counter tells in every observation how many episodes it has had."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    make_trainer(
        *SMALL, "env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=20", "total_steps=60", f"run_dir={whole}"
    ).run()
    assert "probe/Counter-v0 cannot be replayed" in capsys.readouterr().err
    cut(whole, part, 2)
    assert resume(part) == 0
    assert "the episodes of environments 0, 1 cannot be continued: these begin new ones" in capsys.readouterr().err
    lengths = [length for _, length in scalars(part)["episode/length"]]
    assert lengths[:2] == [length for _, length in scalars(whole)["episode/length"]][:2]
    assert lengths[2] == 3.5  # 3, 4 and what is left of 5: counted from the new start


@pytest.mark.parametrize(
    ("options", "first", "then"),
    [
        ("kind: attribute, every: 2", "cannot be replayed", "these begin new ones"),
        ("kind: attribute, every: 1000", "something that outlives an episode, Lasting._episodes", "resumes at step"),
        ("kind: generator, late: 150", "something that outlives an episode, Lasting._steps", "resumes at step"),
    ],
)
def test_what_outlives_an_episode_is_told_before_and_after(tmp_path, capsys, options, first, then):
    run, typed = tmp_path / "run", ["env.id=probe/Lasting-v0", f"env.kwargs={{{options}}}"]
    make_trainer(*SMALL, *typed, "env.num_envs=2", "batch_size=180", "total_steps=360", f"run_dir={run}").run()
    assert first in capsys.readouterr().err
    cut(run, run.with_name("part"), 1)
    assert resume(run.with_name("part")) == 0
    said = capsys.readouterr().err
    assert first in said and then in said


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="forks, and reads /proc")
def test_runs_that_are_killed_resume_to_the_bit(tmp_path, monkeypatch, capsys):
    """A short form of `scripts/torture`."""
    pytest.importorskip("mujoco")
    monkeypatch.setattr(torture, "CASES", {k: (*v, "total_steps=1536") for k, v in torture.CASES.items()})
    torture.random.seed(5)
    assert torture.torture(6, tmp_path) == 0, capsys.readouterr().out
