"""Environments that fail: who and when is told in one line, what was learned is saved, and no process is left."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rlopt.checkpoint import manager as checkpoint
from rlopt.checkpoint import run_state as position
from rlopt.cli import main as cli
from rlopt.cli.process import result_line
from rlopt.envs import spec as environments
from rlopt.errors import EnvironmentFault, UserError
from rlopt.evaluation import episodes as evaluate
from rlopt.parallel import processes as child
from rlopt.rollout.seeding import Purpose, integer
from rlopt.training.trainer import Trainer
from tests.support.command_line import chosen
from tests.support.failing import Fails, breaking, failed
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments", "nothing_is_left")
SMALL = ["policy.hidden=[8]", "critic.hidden=[8]", "evaluation.episodes=0", "checkpoint.every_seconds=null",
         "total_steps=2000"]  # fmt: skip
WHERE = {"here": [], "workers": ["workers=2"]}


def start(run_dir: Path, *overrides: str) -> Trainer:
    return make_trainer(f"run_dir={run_dir}", *SMALL, *overrides)


@pytest.mark.parametrize("how", ["raises", "reset", "hangs", "spins", "exits"])
def test_one_that_breaks_in_this_process_is_named_with_its_step(tmp_path, how):
    """Environment 2 of 3, in the second rollout of 5 steps; the reset is the one after its second episode."""
    run = start(tmp_path, *breaking(how, which=2, at=7, count=3), "batch_size=15", "env.timeout=0.4")
    said = {
        "raises": "at its step 7, raised RuntimeError: the simulator broke",
        "reset": "at its step 10, raised RuntimeError: the simulator did not start again",
        "hangs": "at its step 7, has not come back for env.timeout=0.4 seconds",
        "spins": "at its step 7, has not come back for env.timeout=0.4 seconds",
        "exits": "at its step 7, raised SystemExit: 0",
    }
    assert failed(run, saved=15) == f"environment 2, {said[how]}"


def test_one_that_fails_when_it_is_reset_in_a_worker_is_named(tmp_path):
    run = start(tmp_path, *breaking("reset", which=1, at=7, count=2), "batch_size=10", "workers=2")
    said = "environment 1, at its step 10, raised RuntimeError: the simulator did not start again"
    assert failed(run, saved=10) == said


MISFITS = [
    ("observation", "short", "an observation of shape (1,) where its space has (3,)"),
    ("observation", "long", "an observation of shape (4,) where its space has (3,)"),
    ("observation", "rows", "an observation of shape (3, 1) where its space has (3,)"),
    ("observation", "number", "an observation of shape () where its space has (3,)"),
    ("observation", "nothing", "an observation of shape () where its space has (3,)"),
    ("observation", "text", "an observation of type <U1 where its space has float32"),
    ("observation", "complex", "an observation of type complex128 where its space has float32"),
    ("observation", "ragged", "list that is no array: "),
    ("reward", "array", "a reward of shape (1,) where one number is wanted"),
    ("reward", "two", "a reward of shape (2,) where one number is wanted"),
    ("reward", "nothing", "a reward of type NoneType where a number is wanted"),
    ("reward", "string", "a reward of type str where a number is wanted"),
    ("reward", "imaginary", "a reward of type complex where a number is wanted"),
    ("terminated", "nothing", "terminated=None where true or false is wanted"),
    ("terminated", "string", "terminated='1.0' where true or false is wanted"),
    ("terminated", "undefined", "terminated=nan where true or false is wanted"),
    ("terminated", "two", "terminated=[1.0, 2.0] where true or false is wanted"),
]


@pytest.mark.parametrize(("what", "how", "said"), MISFITS, ids=lambda text: text.split()[0])
def test_what_does_not_fit_the_spaces_is_told(tmp_path, what, how, said):
    run = start(tmp_path, "env.id=probe/Misfit-v0", "env.num_envs=1", "batch_size=5", f"env.kwargs.what={what}",
                f"env.kwargs.how={how}", "env.kwargs.at=7")  # fmt: skip
    assert failed(run, saved=5).startswith(f"environment 0, at its step 7, gave {said}")


@pytest.mark.parametrize(("what", "how"), [("observation", "short"), ("reward", "array"), ("terminated", "undefined")])
def test_what_does_not_fit_in_a_worker_is_told_alike(tmp_path, what, how):
    run = start(tmp_path, "env.id=probe/Misfit-v0", "env.num_envs=2", "batch_size=10", f"env.kwargs.what={what}",
                f"env.kwargs.how={how}", "env.kwargs.at=7", "workers=2")  # fmt: skip
    (said,) = (text for w, h, text in MISFITS if (w, h) == (what, how))
    told = failed(run, saved=10)
    assert told[:13] in ("environment 0", "environment 1") and told[13:] == f", at its step 7, gave {said}"


def test_that_does_not_fit_at_the_first_reset_is_told(tmp_path):
    run = start(tmp_path, "env.id=probe/Misfit-v0", "env.num_envs=2", "batch_size=10", "env.kwargs.what=observation",
                "env.kwargs.how=short", "env.kwargs.at=0")  # fmt: skip
    assert failed(run, saved=0) == (
        "environment 0, at its first reset, gave an observation of shape (1,) where its space has (3,)"
    )


@pytest.mark.parametrize("what, how", [("observation", "list"), ("observation", "double"), ("observation", "whole"),
                                       ("reward", "truth"), ("reward", "scalar"), ("terminated", "scalar")])  # fmt: skip
def test_numbers_of_another_kind_pass(tmp_path, what, how):
    run = start(tmp_path, "env.id=probe/Misfit-v0", "env.num_envs=1", "batch_size=5", f"env.kwargs.what={what}",
                f"env.kwargs.how={how}", "env.kwargs.at=7", "total_steps=10")  # fmt: skip
    assert run.run()["steps"] == 10


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["env.kwargs.at=13", "env.id=probe/Raises-v0"], "environment 0 of the evaluation, at its step 3 of an episode,"
         " raised RuntimeError: the simulator broke"),
        (["env.kwargs.at=13", "env.id=probe/Misfit-v0", "env.kwargs.what=reward", "env.kwargs.how=two"],
         "environment 0 of the evaluation, at its step 3 of an episode, gave a reward of shape (2,)"),
    ],
    ids=["raises", "misfit"],
)  # fmt: skip
def test_one_that_fails_in_the_evaluation_is_named(tmp_path, overrides, said):
    """Of 10 steps of training, then 2 environments evaluate 6 episodes of 5 steps, 3 each."""
    run = start(tmp_path, "env.num_envs=1", "batch_size=10", "total_steps=10", *overrides)
    environment, policy = run.config.env, run.agent.policy(run.state)
    run.collector.close()
    with pytest.raises(EnvironmentFault) as caught:
        evaluate.evaluate(environment, policy, run.agent.head, 40, 0, True)
    assert str(caught.value).startswith(said)


def test_one_that_hangs_in_the_evaluation_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tests.support.failing.integer",
        lambda seed, purpose, number: integer(seed, Purpose.EVALUATION_ENVIRONMENT, number),
    )
    run = start(tmp_path, *breaking("hangs", which=2, at=4, count=1), "batch_size=10", "total_steps=10", "env.timeout=0.2",
                "evaluation.episodes=3")  # fmt: skip
    said = "environment 2 of the evaluation, at its step 4 of an episode, has not come back for env.timeout=0.2 seconds"
    with pytest.raises(EnvironmentFault, match=said):
        run.run()
    assert checkpoint.load_newest(tmp_path)[0] == 10


def test_an_episode_that_does_not_end_is_not_evaluated_for_ever(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "LONGEST", 50)
    monkeypatch.setattr(evaluate, "_QUIET", 0.0)
    run = start(tmp_path, "env.id=probe/Endless-v0", "env.num_envs=1", "batch_size=10", "total_steps=10",
                "evaluation.episodes=3")  # fmt: skip
    summary = run.run()
    assert summary["evaluation_cut"] == summary["sampled_evaluation_cut"] == 3
    told = capsys.readouterr().err
    assert "evaluation: 0 of 3 episodes, 147 transitions\n" in told
    assert "3 of 3 episodes were cut off after 50 transitions; another limit is evaluation.max_steps" in told
    assert "(mode, 3 episodes cut off)" in result_line(summary)


# --- when they are made, tried, put back and closed


def failing(how: str, when: str, *overrides: str) -> tuple[str, ...]:
    return ("env.id=probe/Fails-v0", "env.num_envs=2", "batch_size=60", "total_steps=120", f"env.kwargs.how={how}",
            f"env.kwargs.when={when}", *overrides)  # fmt: skip


def test_one_that_ends_the_process_when_it_is_made_is_told(tmp_path):
    with pytest.raises(UserError, match=r"Fails-v0 cannot be made with .*: SystemExit: 0 \(.*failing.py, line"):
        start(tmp_path, *failing("exits", "made"))


def test_one_that_hangs_when_it_is_made_is_told(tmp_path):
    with pytest.raises(EnvironmentFault, match="^env.id=probe/Fails-v0, when it was made, has not come back for env"):
        start(tmp_path, *failing("hangs", "made", "env.timeout=0.2"))


@pytest.mark.parametrize("how", ["hangs", "exits"])
def test_a_failure_when_it_is_first_tried_is_the_runs_to_report(tmp_path, how):
    run = start(tmp_path, *failing(how, "stepped", "env.timeout=0.2"))
    what = "has not come back for env.timeout=0.2 seconds" if how == "hangs" else "raised SystemExit: 0"
    assert failed(run, saved=0) == f"environment 0, at its step 1, {what}"


def left_in_episodes(run_dir: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[Trainer, dict[str, Any]]:
    """A run that is to be taken up where one in which nothing failed has ended, and that one's checkpoint."""
    with monkeypatch.context() as before:
        before.setattr(Fails, "armed", False)
        start(run_dir / "left", *overrides).run()
    return start(run_dir / "next", *overrides), checkpoint.load_newest(run_dir / "left")[1]


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("how", ["raises", "exits", "hangs"])
def test_one_that_fails_when_it_is_put_back_is_named(tmp_path, monkeypatch, where, how):
    monkeypatch.setattr(child, "_PATIENCE", 0.3)
    run, tree = left_in_episodes(tmp_path, monkeypatch, *failing(how, "reset", "env.timeout=0.4", *WHERE[where]))
    what = {"raises": "raised OSError: the simulator cannot be reset", "exits": "raised SystemExit: 0",
            "hangs": "has not come back for env.timeout=0.4 seconds"}[how]  # fmt: skip
    with closing(run.collector), pytest.raises(EnvironmentFault) as caught:
        run.restore(tree)
    said = str(caught.value)
    assert said[:13] in ("environment 0", "environment 1") and said[13:] == f", while its episode was replayed, {what}"


@pytest.mark.parametrize("where", WHERE)
def test_a_replay_may_outlast_the_step_timeout_and_is_reported(tmp_path, monkeypatch, capsys, where):
    monkeypatch.setattr(position, "_QUIET", 0.05)
    overrides = failing("dawdles", "stepped", "env.timeout=0.4", *WHERE[where])
    run, tree = left_in_episodes(tmp_path, monkeypatch, *overrides)
    lengths = [len(entry["actions"]) for entry in tree["environments"]]
    assert min(lengths) > 45  # of 10 ms each
    with closing(run.collector):
        assert run.restore(tree) == []
    assert f"rlopt: replays {sum(lengths)} transitions of the episodes that were running\n" in capsys.readouterr().err


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("how", ["raises", "exits", "hangs"])
def test_one_that_cannot_be_closed_is_told_of_once(tmp_path, monkeypatch, capsys, how, where):
    monkeypatch.setattr(environments, "_not_closed", {})
    run = start(tmp_path, *failing(how, "closed", "env.timeout=0.2", "evaluation.episodes=2", *WHERE[where]))
    assert run.run()["steps"] == 120 and (tmp_path / "summary.json").is_file()
    what = {"raises": "raised OSError: the simulator cannot be closed", "exits": "raised SystemExit: 0",
            "hangs": "has not come back for env.timeout=0.2 seconds"}[how]  # fmt: skip
    told = [line for line in capsys.readouterr().err.splitlines() if "closed" in line]
    assert told == [f"rlopt: env.id=probe/Fails-v0, when it was closed, {what}; it is left as it is"]


def test_one_that_hangs_when_it_is_closed_in_a_worker_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "_PATIENCE", 0.3)
    run = start(tmp_path, *failing("hangs", "closed", "env.kwargs.elsewhere=true", "workers=2"))
    assert run.run()["steps"] == 120


def test_the_command_line_says_it_in_one_line_and_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = cli.main(["train", *chosen(*SMALL, *breaking("hangs", which=1, at=7, count=3), "batch_size=15", "env.timeout=0.4",
                     "run_dir=run")])  # fmt: skip
    errors = capsys.readouterr().err
    assert code == 2 and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("rlopt: environment 1, at its step 7, has not come back")
    assert checkpoint.load_newest(Path("run"))[0] == 15


# --- the watchdog
