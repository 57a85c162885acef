"""What would change the past of a run is refused where it is taken up again, and other versions are told of."""

import json
import math
import shutil

import pytest
import torch

from rlopt.checkpoint import manager as checkpoint
from rlopt.checkpoint.resume_rules import change_options
from rlopt.errors import UserError
from tests.support.building import resolve
from tests.support.resuming import cut, resume

pytestmark = pytest.mark.usefixtures("probe_environments")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["gamma=0.5"], "gamma cannot be changed in the middle of a run; resume takes total_steps, "),
        (["algo=ppo"], "algo cannot be changed"),
        (["total_steps=some"], "total_steps must be a whole number"),
        (["total_steps=1,2"], "several values are for several runs"),
        (["checkpoint.keep=0"], "checkpoint.keep must be a whole number, 1 or above"),
        (["nonsense"], "cannot read 'nonsense'"),
        (["total_steps=900"], "scheduler=linear ends at update 5"),
        (["total_steps=9e2"], "scheduler=linear ends at update 5"),
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
    from rlopt.checkpoint import resume_rules as module

    monkeypatch.setattr(module, "versions", lambda: {**checkpoint.load_newest(part)[1]["versions"], "torch": "99.0"})
    assert resume(part) == 0
    assert f"saved with torch {torch.__version__.partition('+')[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scheduler", "refused"),
    [
        ("scheduler=constant", False),
        ("scheduler=inverse", False),
        ("scheduler=linear", True),
        ("scheduler=cosine", True),
        ("critic.scheduler=linear", True),
        ("step=fixed scheduler=constant", False),
        ("step=trust_region scheduler=inverse", False),
        ("step=kl_clip scheduler=linear", True),
        ("step=trust_region scheduler=cosine", True),
    ],
)
def test_only_a_schedule_with_a_course_holds_a_run_to_its_end(scheduler, refused):
    """One update, which is also where the constant schedule's yaml has its end."""
    config = resolve(["algo=vpg", "batch_size=80", "total_steps=80", *scheduler.split()])
    if refused:
        typed = scheduler.split()[-1]
        with pytest.raises(UserError, match=f"total_steps cannot be raised: {typed} ends at update 1,"):
            change_options(config, {"total_steps": 160})
    else:
        assert change_options(config, {"total_steps": 160})["updates"] == 2


def test_a_shortened_run_is_not_extended_beyond_its_plan():
    """Its rate is 0 where it was planned to end."""
    config = resolve(["algo=vpg", "batch_size=80", "total_steps=800", "scheduler=linear"])
    short = change_options(config, {"total_steps": 400})
    assert change_options(short, {"total_steps": 800})["updates"] == 10
    for of in (config, short):
        with pytest.raises(UserError, match=r"ends at update 10, with the run as it was planned"):
            change_options(of, {"total_steps": 880})
    with pytest.raises(UserError, match=r"total_steps=800 at most"):
        change_options(short, {"total_steps": 1600})
    ended = resolve(["algo=vpg", "batch_size=80", "total_steps=800", "scheduler=linear", "scheduler.total_iters=5"])
    assert change_options(ended, {"total_steps": 1600})["updates"] == 20


@pytest.mark.parametrize("ranks", [2, 1, None])
def test_a_run_of_ranks_says_that_one_goes_on_otherwise(tmp_path, runs, capsys, ranks):
    part = tmp_path / "part"
    cut(runs("cartpole trpo"), part, 2)
    step, tree = checkpoint.load_newest(part)
    assert tree["ranks"] == 1
    other = {name: value for name, value in tree.items() if name != "ranks"} | ({"ranks": ranks} if ranks else {})
    checkpoint.save(part / "checkpoints", step, other, keep=9)
    assert resume(part) == 0
    said = "this run was saved by 2 ranks, here it has 1: it goes on, but not bit for bit"
    assert (said in capsys.readouterr().err) == (ranks == 2)


COUNTERS = {"steps": math.nan, "updates": -1, "skipped": math.inf, "bad_in_a_row": 1.5, "seconds": math.nan,
            "wall_seconds": "long"}  # fmt: skip


@pytest.mark.parametrize("name", COUNTERS)
def test_a_counter_that_is_none_is_refused(tmp_path, runs, capsys, name):
    part = tmp_path / "part"
    cut(runs("cartpole trpo"), part, 2)
    step, tree = checkpoint.load_newest(part)
    checkpoint.save(part / "checkpoints", step, tree | {name: COUNTERS[name]}, keep=1)
    capsys.readouterr()
    assert resume(part) == 2
    assert f"is not a run's checkpoint: ValueError: {name} is {COUNTERS[name]!r}" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert resume(tmp_path) == 2
    assert capsys.readouterr().err.endswith("is not the folder of a run: it has no config.yaml\n")


def test_a_lost_configuration_can_be_had_from_a_checkpoint(tmp_path, runs, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(runs("cartpole trpo"), run_dir)
    config = run_dir / "config.yaml"
    for lost in (lambda: config.unlink(), lambda: config.write_text("seed: 0\n")):
        lost()
        assert resume(run_dir, "checkpoint.keep=3") == 2
        assert (
            "each of its checkpoints holds a copy: the JSON in the header of its file has it under config"
            in capsys.readouterr().err
        )
    saved = checkpoint.load(run_dir / "checkpoints/step-000000000200.safetensors")["config"]
    config.write_text(json.dumps(saved))
    assert resume(run_dir, "total_steps=240") == 0


def test_a_run_of_1e5_steps_ends_there(tmp_path, runs, capsys):
    run_dir = tmp_path / "run"
    shutil.copytree(runs("cartpole trpo", "total_steps=2e2"), run_dir)
    for name in ("200", "200.0"):  # the second as it was written once
        config = run_dir / "config.yaml"
        config.write_text(config.read_text().replace("total_steps: 200\n", f"total_steps: {name}\n"))
        assert resume(run_dir) == 0
        assert "is finished" in capsys.readouterr().out


def test_a_run_may_go_on_with_more_room_for_contacts():
    changed = change_options({"env": {"njmax": None}}, {"env.njmax": 90, "env.nconmax": 40})
    assert changed == {"env": {"njmax": 90, "nconmax": 40}}
