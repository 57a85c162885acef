"""An update from numbers that are not finite is skipped and changes nothing; several in a row stop the run."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlopt.cli import main as cli
from rlopt.errors import Stopped
from tests.support.command_line import chosen
from tests.support.training import NAN, SMALL, equal, leaves, saved, scalars, start

pytestmark = pytest.mark.usefixtures("probe_environments")


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize(
    "algo, constant", [("ppo", ("scheduler=constant", "critic.scheduler=constant")), ("trpo", ())], ids=["ppo", "trpo"]
)
def test_numbers_not_finite_stop_the_run_and_change_nothing(tmp_path, what, algo, constant):
    """Each environment gives 5 steps an update: two good updates, then bad ones."""
    override = [f"algo={algo}", *NAN, f"env.kwargs.what={what}", "max_bad_updates=3", *constant]
    good = start(tmp_path / "good", *override, "env.kwargs.since=11", "total_steps=40")
    good.run()

    run = start(tmp_path / "bad", *override, "env.kwargs.since=11")
    with pytest.raises(Stopped) as caught:
        run.run()
    message = str(caught.value)
    assert f"the last because of: {what}. Stopped" in message and "3 updates in a row" in message
    assert "\n" not in message
    assert (run.steps, run.updates, run.skipped) == (100, 5, 3)
    step, tree = saved(tmp_path / "bad")
    assert step == 100
    assert equal(tree["agent"], saved(tmp_path / "good")[1]["agent"])
    skipped = scalars(tmp_path / "bad")["update/skipped"]
    assert skipped == [(20, 0), (40, 0), (60, 1), (80, 2), (100, 3)]


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_a_run_goes_on_when_the_numbers_are_finite_again(tmp_path, what):
    run = start(tmp_path, *NAN, f"env.kwargs.what={what}", "env.kwargs.since=11", "env.kwargs.until=19",
                "max_bad_updates=4", "total_steps=120")  # fmt: skip
    run.run()
    assert 2 <= run.skipped <= 3
    assert all(
        torch.as_tensor(v).double().isfinite().all() for v in leaves(run.state).values() if isinstance(v, Tensor)
    )
    assert saved(tmp_path)[1]["skipped"] == run.skipped


@pytest.mark.parametrize("course, updates", [("xx.xx.xx.", 9), ("xx.xxx...", 6), ("xxx......", 3)])
def test_only_bad_updates_in_a_row_stop_a_run(tmp_path, course, updates):
    run = start(tmp_path, "total_steps=720", "max_bad_updates=3", "evaluation.episodes=0")
    learn, verdicts = run.agent.learn, iter(course)

    def judged(*arguments):
        state, lesson = learn(*arguments)
        return state, dataclasses.replace(lesson, failure="gradient" if next(verdicts) == "x" else None)

    run.agent.learn = judged
    if updates == 9:
        run.run()
    else:
        with pytest.raises(Stopped, match="because of: gradient\\. Stopped"):
            run.run()
    assert run.updates == updates


def test_an_infinite_last_observation_if_truncated_is_noticed(tmp_path):
    run = start(tmp_path, "env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=20", "max_bad_updates=1")
    finish = run.collector.finish

    def spoilt():
        batch = finish()
        return dataclasses.replace(batch, final=batch.final * torch.nan)

    run.collector.finish = spoilt
    before = leaves(run.state)
    with pytest.raises(Stopped, match="because of: last observation\\. Stopped"):
        run.run()
    assert all(v is before[k] for k, v in leaves(run.state).items())


def test_a_run_that_is_stopped_exits_with_3(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = cli.main(["train", *chosen(*SMALL, *NAN, "env.kwargs.what=reward", "env.kwargs.since=1", "max_bad_updates=2",
                     "run_dir=run")])  # fmt: skip
    errors = capsys.readouterr().err.splitlines()
    assert code == 3
    assert errors[-1].startswith("rlopt: ") and "reward" in errors[-1]
    assert not any("Traceback" in line for line in errors)
    assert saved(Path("run"))[0] == 40
