"""Numbers that are not finite, and numbers that are all the same, from an environment to the end of a run."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.errors import Stopped
from rlopt.training.failure_policy import describe
from rlopt.training.trainer import Trainer
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")

SMALL = ["env.num_envs=4", "batch_size=20", "total_steps=2000", "policy.hidden=[8]", "critic.hidden=[8]",
         "evaluation.episodes=0", "checkpoint.every_seconds=null"]  # fmt: skip
BAD = ["env.id=probe/NotFinite-v0", "env.kwargs.since=11"]  # its step 11, the first of the third rollout


def start(run_dir: Path, *overrides: str) -> Trainer:
    return make_trainer(f"run_dir={run_dir}", *SMALL, *overrides)


def stopped(run: Trainer) -> str:
    with pytest.raises(Stopped) as caught:
        run.run()
    message = str(caught.value)
    assert "\n" not in message and str(run.run_dir / "nan_report.json") in message
    return message


def report(run: Trainer) -> dict:
    """As strict JSON has it."""

    def none(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads((run.run_dir / "nan_report.json").read_text(), parse_constant=none)


def thetas(run: Trainer) -> list[Tensor]:
    return [network["theta"].clone() for network in (run.state["actor"], run.state["critic"])]


def finite(tree: object) -> bool:
    if isinstance(tree, dict):
        return all(finite(node) for name, node in tree.items() if name != "spaces")  # whose bounds may be infinite
    return not isinstance(tree, Tensor) or not tree.is_floating_point() or bool(tree.isfinite().all())


# --- what an environment gives


def test_rewards_with_infinite_squares_skip_the_update_too(tmp_path):
    run = start(
        tmp_path, *BAD, "env.kwargs.what=reward", "env.kwargs.value=1e200", "dtype=float64", "max_bad_updates=2"
    )
    assert stopped(run).startswith("2 updates in a row were skipped for numbers that are not finite, the last because "
                                   "of: a reward is not finite. Stopped at step 80")  # fmt: skip
    assert finite(run.state) and run.skipped == 2


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("what", ["reward", "observation"])
def test_numbers_beyond_the_type_are_infinite_without_a_warning(tmp_path, what, workers, capfd):
    """Warnings are errors here, and numpy's, in workers, are on the terminal."""
    value = "1e300" if what == "reward" else "3e38"  # the observations of this environment are float32
    typed = [f"env.kwargs.what={what}", f"env.kwargs.value={value}", "max_bad_updates=1", f"workers={workers}"]
    if what == "observation":
        typed.append("env.kwargs.wide=true")
    assert f"the last because of: {what}." in stopped(start(tmp_path, *BAD, *typed))
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("what", ["reward", "observation"])
def test_an_environments_first_bad_number_is_named_and_described(tmp_path, what, value):
    run = start(tmp_path, *BAD, f"env.kwargs.what={what}", f"env.kwargs.value={value}", "max_bad_updates=1")
    message = stopped(run)
    # the last observation of a rollout is the first of the next, and only values are made of it
    assert message.startswith("1 updates in a row were skipped for numbers that are not finite, the last because of: "
                              f"{what}. Stopped at step 60; the policy is as it was before them")  # fmt: skip
    found = report(run)
    assert (found["step"], found["update"], found["failure"], found["rank"]) == (60, 3, what, 0)
    t = 0 if what == "reward" else 1
    assert found["first"] == {"quantity": what, "t": t, "environment": 0}
    assert found["parts"]["actor"] == {"objective": "surrogate", "metric": "fisher", "solver": "cg",
                                       "damping": "constant", "step": "kl_line_search", "estimator": "plain"}  # fmt: skip
    entry = found["quantities"][what]
    count = 20 if what == "reward" else 16
    assert entry["shape"] == ([5, 4] if what == "reward" else [5, 4, 1])
    assert (entry["nan"], entry["inf"]) == ((count, 0) if value == "nan" else (0, count))
    assert entry["first"] == ([0, 0] if what == "reward" else [1, 0, 0])
    assert (entry["mean"] is None) == (what == "reward")
    fine = found["quantities"]["observation" if what == "reward" else "reward"]
    assert fine["nan"] == fine["inf"] == 0 and fine["first"] is None and fine["min"] <= fine["mean"] <= fine["max"]
    assert finite(checkpoint.load_newest(tmp_path)[1])


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_an_infinity_that_clipping_would_hide_is_noticed(tmp_path, what):
    """Step 10 ends the second rollout, and with it every environment's second episode; its reset gives a good one."""
    late = start(tmp_path, *BAD[:1], "env.kwargs.since=9", "env.kwargs.until=9", f"env.kwargs.what={what}",
                 "env.kwargs.value=inf", "env.num_envs=1", "batch_size=9", "max_bad_updates=1")  # fmt: skip
    message = stopped(late)
    assert ("because of: last observation" if what == "observation" else "because of: reward") in message
    assert late.updates == 1


@pytest.mark.parametrize(("limit", "updates"), [("1", 3), ("4", 6)])
def test_a_run_stops_at_the_first_bad_update_or_after_several(tmp_path, limit, updates):
    run = start(tmp_path, *BAD, "env.kwargs.what=reward", f"max_bad_updates={limit}")
    assert stopped(run).startswith(f"{limit} updates in a row")
    assert run.updates == updates
    assert report(run)["update"] == 3  # the first of them


def test_a_run_can_go_on_whatever_happens(tmp_path):
    run = start(tmp_path, *BAD, "env.kwargs.what=reward", "env.kwargs.until=100", "max_bad_updates=null",
                "total_steps=460")  # fmt: skip
    assert run.run()["steps"] == 460
    assert (run.updates, run.skipped, run.failures.in_a_row) == (23, 18, 0)
    assert finite(run.state) and report(run)["update"] == 3


@pytest.mark.parametrize("overrides", [(), ("algo=ppo", "scheduler=constant"), ("algo=acktr",)], ids=" ".join)
def test_what_was_skipped_leaves_no_trace(tmp_path, overrides):
    run = start(tmp_path, *BAD, "env.kwargs.what=reward", *overrides, "max_bad_updates=3")
    seen: list[list[Tensor]] = []
    learn = run.agent.learn
    run.agent.learn = lambda *given: (seen.append(thetas(run)), learn(*given))[1]
    stopped(run)
    assert len(seen) == 5
    assert not torch.equal(seen[1][0], seen[2][0])
    assert all(map(torch.equal, seen[2], thetas(run))) and all(map(torch.equal, seen[3], seen[4]))


# --- what a policy gives


@pytest.mark.parametrize("bound", ["1.0", "inf"])
@pytest.mark.parametrize("squash", ["true", "false"])
def test_an_action_that_is_nan_never_reaches_an_environment(tmp_path, bound, squash):
    if (bound, squash) == ("inf", "true"):
        pytest.skip("squashing needs bounds")
    run = start(tmp_path, "env.id=probe/Strict-v0", f"env.kwargs.bound={bound}", f"policy.squash={squash}",
                "max_bad_updates=2")  # fmt: skip
    run.state["actor"]["theta"] = torch.full_like(run.state["actor"]["theta"], math.nan)
    assert "because of: policy output." in stopped(run)
    found = report(run)
    assert found["first"] == {"quantity": "policy output", "t": 0, "environment": 0}
    assert found["quantities"]["action"]["nan"] == 40 and found["quantities"]["reward"]["nan"] == 0


@pytest.mark.parametrize("env", ["MultiDiscrete", "MultiBinary", "ActionObservation"])
def test_discrete_actions_of_a_nan_policy_are_valid_actions(tmp_path, env):
    """MultiDiscrete and MultiBinary hold every action against their space."""
    run = start(tmp_path, f"env.id=probe/{env}-v0", "max_bad_updates=1")
    run.state["actor"]["theta"] = torch.full_like(run.state["actor"]["theta"], math.nan)
    assert "because of: policy output." in stopped(run)


# --- what learning gives


SGD = ["algo=vpg", "optimizer=sgd", "critic.optimizer=sgd"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([*SGD, "optimizer.lr=1e38"], "KL after the update"),
        ([*SGD, "critic.optimizer.lr=1e38", "critic.schedule=whole_batch"], "critic theta after the update"),
        (["algo=vpg", "step=fixed", "step.rate=1e38"], "KL after the update"),
    ],
    ids=["actor", "critic", "fixed"],
)
def test_a_network_that_explodes_goes_back_to_where_it_was(tmp_path, overrides, said):
    run = start(tmp_path, "env=pendulum", "rewards.scale=false", *overrides, "max_bad_updates=2")
    before = thetas(run)
    assert f"because of: {said}." in stopped(run)
    after, exploded = thetas(run), int("critic" in said)
    assert torch.equal(before[exploded], after[exploded])
    assert not torch.equal(before[1 - exploded], after[1 - exploded])  # the other one learns
    assert finite(run.state) and finite(checkpoint.load_newest(tmp_path)[1])
    assert report(run)["quantities"]["actor parameters"]["shape"] == [len(after[0])]


def test_a_loss_that_explodes_skips_the_minibatches_that_follow(tmp_path):
    run = start(tmp_path, "env=pendulum", "rewards.scale=false", *SGD, "critic.optimizer.lr=1e38", "max_bad_updates=2",
                "critic.schedule=minibatch", "critic.schedule.minibatch=5")  # fmt: skip
    before = thetas(run)
    assert "because of: critic objective." in stopped(run)
    assert torch.equal(before[1], thetas(run)[1]) and run.skipped > 4


@pytest.mark.parametrize("fails", ["raises", "nan"])
def test_eigenvalues_that_are_not_found_skip_the_update(tmp_path, monkeypatch, fails):
    def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
        if fails == "raises":
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return matrix.diagonal() * math.nan, matrix

    run = start(tmp_path, "env=cartpole", "algo=acktr", "solver=ekfac", "max_bad_updates=2")
    before = thetas(run)
    monkeypatch.setattr(torch.linalg, "eigh", eigh)
    message = stopped(run)
    assert "because of: the eigenvalues of a Kronecker factor of 0.weight were not found. Stopped" in message
    assert torch.equal(before[0], thetas(run)[0]) and finite(run.state)


def test_a_run_recovers_from_one_failed_eigendecomposition(tmp_path, monkeypatch):
    eigh, calls = torch.linalg.eigh, []

    def once(matrix: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        if len(calls) <= 2:  # the second attempt is part of the first call's failure
            raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return eigh(matrix)

    run = start(tmp_path, "env=cartpole", "algo=acktr", "solver=ekfac", "max_bad_updates=2", "total_steps=80")
    monkeypatch.setattr(torch.linalg, "eigh", once)
    run.run()
    assert len(calls) > 2 and run.skipped == 1 and finite(run.state)


# --- numbers that are all the same, and episodes at both ends

ALGOS = ["vpg", "a2c", "npg", "trpo", "ppo", "acktr", "ggn"]


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("env", ["Constant", "Endless"])
def test_what_is_extreme_but_finite_is_learned_from(tmp_path, algo, env):
    """Constant: one observation, one reward, episodes of one step. Endless: no episode ever ends."""
    run = start(tmp_path, f"algo={algo}", f"env.id=probe/{env}-v0", "total_steps=100", "max_bad_updates=1")
    summary = run.run()
    assert run.skipped == 0 and finite(run.state)
    assert summary["return_mean"] == (1 if env == "Constant" else None)


@pytest.mark.parametrize("algo", ALGOS)
def test_equal_advantages_leave_the_policy_where_it_is(tmp_path, algo):
    run = start(tmp_path, f"algo={algo}", "env.id=probe/Constant-v0", "max_bad_updates=1", "observations.normalise=false",
                "dtype=float64")  # fmt: skip
    batch = run.collector.collect(run.agent.policy(run.state))
    before = thetas(run)[0]
    state, lesson = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    assert lesson.failure is None
    if not getattr(run.agent.actor.update.objective, "entropy", 0):
        torch.testing.assert_close(state["actor"]["theta"], before, rtol=0, atol=1e-5)


# --- the report and the command line


def test_a_summary_is_of_the_finite_entries():
    x = torch.tensor([[1.0, math.nan, 4.0], [math.inf, -2.0, -math.inf]])
    assert describe(x) == {"shape": [2, 3], "min": -2, "max": 4, "mean": 1, "nan": 1, "inf": 2, "first": [0, 1]}
    none = {"min": None, "max": None, "mean": None}
    assert describe(torch.full((2,), math.nan)) == {"shape": [2], **none, "nan": 2, "inf": 0, "first": [0]}
    assert describe(torch.zeros(0, 3)) == {"shape": [0, 3], **none, "nan": 0, "inf": 0, "first": None}
    assert describe(torch.tensor([3], dtype=torch.uint8))["mean"] == 3


def test_the_command_line_exits_with_3_and_says_where_to_look(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = cli.main(["train", *SMALL, *BAD, "env.kwargs.what=observation", "env.kwargs.value=-inf", "run_dir=run",
                     "max_bad_updates=1"])  # fmt: skip
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == 3
    assert last.startswith("rlopt: 1 updates in a row") and "run/nan_report.json describes the first" in last
    assert (tmp_path / "run" / "nan_report.json").is_file()
