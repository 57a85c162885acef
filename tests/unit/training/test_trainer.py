"""A run from its first update to its last: the same from the same seed, and as long, recorded and summed up as it says."""

import json

import pytest
import torch
from torch import Tensor

from tests.support.probes import make_trainer
from tests.support.traces import same, tree_of
from tests.support.training import SMALL, saved, scalars, start

pytestmark = pytest.mark.usefixtures("probe_environments")

REPORTED = {  # of every update
    "step/kl", "step/improvement", "step/size", "step/accepted", "solver/iterations", "solver/residual",
    "damping/value", "objective/value", "objective/gradient_norm", "policy/entropy", "critic/loss",
    "critic/explained_variance", "update/skipped", "time/steps_per_second", "time/collect", "time/update",
}  # fmt: skip
SUMMARY = [
    "algo", "env", "seed", "steps", "steps_per_second", "return_mean", "return_std", "evaluation_return",
    "evaluation_std", "wall_seconds",
]  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [("env=cartpole", "algo=ppo"), ("env=pendulum", "algo=trpo"), ("env=pendulum", "algo=npg", "dtype=float64")],
    ids=" ".join,
)
def test_the_same_command_twice_gives_the_same_run_bit_for_bit(tmp_path, overrides):
    runs = [start(tmp_path / name, *overrides) for name in "ab"]
    summaries = [run.run() for run in runs]
    a, b = (tree_of(tmp_path / name) for name in "ab")
    assert same(a, b)
    assert not torch.equal(a["agent"]["actor"]["theta"], make_theta(overrides))
    curves = [{k: v for k, v in scalars(tmp_path / name).items() if not k.startswith("time/")} for name in "ab"]
    assert curves[0] == curves[1]
    assert len(curves[0]["step/kl"]) == 3
    for summary in summaries:
        del summary["steps_per_second"], summary["wall_seconds"]
    assert summaries[0] == summaries[1]


def make_theta(overrides: tuple[str, ...]) -> Tensor:
    """theta before the first update."""
    run = make_trainer(*SMALL, *overrides)
    run.collector.close()
    return run.state["actor"]["theta"]


def test_another_seed_is_another_run(tmp_path):
    for seed in (0, 1):
        start(tmp_path / str(seed), f"seed={seed}").run()
    a, b = (saved(tmp_path / str(seed))[1]["agent"]["actor"]["theta"] for seed in (0, 1))
    assert not torch.equal(a, b)


def test_the_summary_tells_what_others_rely_on(tmp_path):
    returned = start(tmp_path, "seed=4", "algo=npg").run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == returned
    assert set(SUMMARY) <= set(summary)
    assert (summary["algo"], summary["env"], summary["seed"], summary["steps"]) == ("npg", "CartPole-v1", 4, 240)
    assert 0 < summary["wall_seconds"] and 0 < summary["steps_per_second"]


def test_training_returns_are_those_of_the_last_100_episodes(tmp_path):
    """Counter pays 0 + 1 + ... + (length - 1) for its 3, 4 and 5 steps: 3, 6 and 10."""
    summary = start(tmp_path, "env.id=probe/Counter-v0", "env.num_envs=1", "batch_size=60", "total_steps=600",
                    "evaluation.episodes=0").run()  # fmt: skip
    last = torch.tensor([[3.0, 6.0, 10.0][i % 3] for i in range(150)][-100:])
    assert summary["return_mean"] == pytest.approx(last.mean().item())
    assert summary["return_std"] == pytest.approx(last.std(correction=0).item())
    curves = scalars(tmp_path)
    assert curves["episode/return"] == [(60 * i, pytest.approx(19 / 3)) for i in range(1, 11)]
    assert curves["episode/length"] == [(60 * i, pytest.approx(4)) for i in range(1, 11)]
    assert "evaluation_return" not in summary


def test_no_finished_episode_is_no_return_rather_than_an_error(tmp_path):
    summary = start(tmp_path, "env=pendulum", "evaluation.episodes=0").run()
    assert summary["return_mean"] is None and summary["return_std"] is None
    assert json.loads((tmp_path / "summary.json").read_text())["return_mean"] is None


@pytest.mark.parametrize("algo", ["vpg", "npg", "trpo", "ppo"])
def test_the_documented_scalars_are_recorded_at_every_update(tmp_path, algo):
    start(tmp_path, f"algo={algo}").run()
    curves = scalars(tmp_path)
    solves = algo in ("npg", "trpo")
    assert solves == any(
        name.startswith(("solver/", "damping/")) for name in curves
    )  # no constants of what is not done
    for name in REPORTED if solves else {n for n in REPORTED if not n.startswith(("solver/", "damping/"))}:
        assert [step for step, _ in curves[name]] == [80, 160, 240], name
    extra = {"trpo": ["step/backtracks", "step/kl_predicted", "step/improvement_predicted", "solver/negative_curvature"],
             "npg": ["step/kl_predicted", "step/improvement_predicted", "solver/negative_curvature"]}  # fmt: skip
    assert set(extra.get(algo, [])) <= set(curves)
    assert {"episode/return", "episode/length"} <= set(curves)


def test_every_scalar_is_documented(tmp_path):
    from rlopt.loggers import logger as recorder

    names = set()
    for algo in ("ppo", "trpo", "npg"):
        start(tmp_path / algo, f"algo={algo}").run()
        names |= set(scalars(tmp_path / algo))
    rows = [line.split("|")[1] for line in recorder.__doc__.splitlines() if line.startswith("| ")]
    documented = {name.strip() for row in rows for name in row.split(",")}
    of_the_critic = {n for n in names if n.startswith("critic/") and n not in documented}
    assert {n for n in names if not n.startswith(("final/", "at_a_glance/"))} - of_the_critic <= documented
    assert {n.removeprefix("critic/").replace("_", "/", 1) for n in of_the_critic} <= documented


def test_the_measured_kl_of_trpo_stays_within_the_radius(tmp_path):
    start(tmp_path, "algo=trpo", "step.radius=0.02", "total_steps=800").run()
    curves = scalars(tmp_path)
    kls = [kl for _, kl in curves["step/kl"]]
    assert len(kls) == 10 and 0 < max(kls) <= 0.02
    assert all(gain > 0 for (_, gain), (_, taken) in zip(curves["step/improvement"], curves["step/accepted"], strict=True)
               if taken)  # fmt: skip


@pytest.mark.parametrize("total, steps", [(1, 80), (79, 80), (80, 80), (81, 160), (160, 160)])
def test_a_run_ends_with_the_first_update_at_or_past_total_steps(tmp_path, total, steps):
    run = start(tmp_path, f"total_steps={total}", "evaluation.episodes=0")
    assert run.run()["steps"] == steps
    assert run.updates == steps // 80
    step, tree = saved(tmp_path)
    assert (step, tree["steps"], tree["updates"]) == (steps, steps, steps // 80)


def test_a_linear_schedule_ends_with_the_run(tmp_path):
    start(tmp_path, "algo=ppo", "total_steps=400", "optimizer.lr=1e-3").run()
    rates = [rate for _, rate in scalars(tmp_path)["step/size"]]
    assert rates == pytest.approx([1e-3 * (1 - i / 5) for i in range(5)])


def test_a_run_directory_holds_what_it_should_and_nothing_else(tmp_path):
    start(tmp_path / "run").run()
    names = sorted(p.name for p in (tmp_path / "run").iterdir())
    assert [n for n in names if not n.startswith("events.out.tfevents")] == [
        "checkpoints",
        "config.yaml",
        "scalars.csv",
        "summary.json",
    ]
    assert len(names) == 5


def test_building_a_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_trainer(*SMALL).collector.close()
    assert list(tmp_path.iterdir()) == []
