import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlopt import cli
from rlopt.errors import EnvironmentFault, Stopped
from rlopt.rollout.collector import Collector
from rlopt.run import checkpoint
from rlopt.run.recorder import Recorder
from rlopt.run.trainer import Trainer
from tests.probes import make_trainer
from tests.torture import same, tree_of

pytestmark = pytest.mark.usefixtures("probe_environments")

SMALL = ["batch_size=80", "total_steps=240", "policy.hidden=[8]", "critic.hidden=[8]", "evaluation.episodes=3"]
REPORTED = {  # of every update
    "step/kl", "step/improvement", "step/size", "step/accepted", "solver/iterations", "solver/residual",
    "damping/value", "objective/value", "objective/gradient_norm", "policy/entropy", "critic/loss",
    "critic/explained_variance", "update/skipped", "time/steps_per_second", "time/collect", "time/update",
}  # fmt: skip
SUMMARY = [
    "algo", "env", "seed", "steps", "steps_per_second", "return_mean", "return_std", "evaluation_return",
    "evaluation_std", "wall_seconds",
]  # fmt: skip


def start(run_dir: Path, *overrides: str) -> Trainer:
    return make_trainer(f"run_dir={run_dir}", *SMALL, *overrides)


def scalars(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """name -> (step, value) of every point, as TensorBoard reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorBoard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0})
        events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for name, node in tree.items() for k, v in leaves(node, f"{path}/{name}").items()}
    return {path: tree}


def equal(a: Any, b: Any) -> bool:
    left, right = leaves(a), leaves(b)
    return left.keys() == right.keys() and all(
        torch.equal(left[k], right[k]) if isinstance(left[k], Tensor) else left[k] == right[k] for k in left
    )


def saved(run_dir: Path) -> tuple[int, dict[str, Any]]:
    return checkpoint.load_newest(run_dir)


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
    for name in REPORTED:
        assert [step for step, _ in curves[name]] == [80, 160, 240], name
    extra = {"trpo": ["step/backtracks", "step/kl_predicted", "step/improvement_predicted", "solver/negative_curvature"],
             "npg": ["step/kl_predicted", "step/improvement_predicted", "solver/negative_curvature"]}  # fmt: skip
    assert set(extra.get(algo, [])) <= set(curves)
    assert {"episode/return", "episode/length"} <= set(curves)


def test_every_scalar_is_documented(tmp_path):
    from rlopt.run import recorder

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


def test_checkpoints_come_by_updates_and_at_the_end(tmp_path):
    start(tmp_path, "checkpoint.every_updates=2", "checkpoint.every_seconds=null", "checkpoint.keep=9",
          "total_steps=400").run()  # fmt: skip
    kept = [int(p.name.removeprefix("step-")) for p in checkpoint.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == [160, 320, 400]


def test_checkpoints_come_by_the_clock(tmp_path):
    start(tmp_path, "checkpoint.every_seconds=0", "checkpoint.keep=9").run()
    kept = [int(p.name.removeprefix("step-")) for p in checkpoint.list_checkpoints(tmp_path / "checkpoints")]
    assert kept == [80, 160, 240]


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


NAN = ["env.id=probe/NotFinite-v0", "env.num_envs=4", "batch_size=20", "total_steps=2000", "evaluation.episodes=0"]


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize(
    "algo, constant", [("ppo", ("scheduler=constant", "critic.scheduler=constant")), ("trpo", ())], ids=["ppo", "trpo"]
)
def test_numbers_that_are_not_finite_stop_the_run_and_touch_nothing(tmp_path, what, algo, constant):
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


def test_an_infinite_last_observation_of_a_truncated_episode_is_noticed(tmp_path):
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
    code = cli.main(["train", *SMALL, *NAN, "env.kwargs.what=reward", "env.kwargs.since=1", "max_bad_updates=2",
                     "run_dir=run"])  # fmt: skip
    errors = capsys.readouterr().err.splitlines()
    assert code == 3
    assert errors[-1].startswith("rlopt: ") and "reward" in errors[-1]
    assert not any("Traceback" in line for line in errors)
    assert saved(Path("run"))[0] == 40


def test_an_environment_that_fails_at_its_first_reset_is_told_like_one_that_fails_later(tmp_path):
    run = start(tmp_path, "env.id=probe/Raises-v0", "env.num_envs=4", "batch_size=20", "env.kwargs.at=0")
    with pytest.raises(EnvironmentFault, match="RuntimeError: the simulator did not start, after step 0"):
        run.run()
    assert saved(tmp_path)[0] == 0


def test_an_environment_that_fails_leaves_a_checkpoint_and_its_curves(tmp_path):
    run = start(tmp_path, "env.id=probe/Raises-v0", "env.num_envs=4", "batch_size=20", "env.kwargs.at=13")
    with pytest.raises(EnvironmentFault, match="RuntimeError: the simulator broke, after step 40"):
        run.run()
    assert "RuntimeError: the simulator broke" in (tmp_path / "error.txt").read_text()
    step, tree = saved(tmp_path)
    assert (step, tree["updates"]) == (40, 2)
    assert [step for step, _ in scalars(tmp_path)["step/kl"]] == [20, 40]


@pytest.mark.parametrize("ends", ["well", "stopped", "failed"])
def test_the_recorder_and_the_environments_are_closed_however_a_run_ends(tmp_path, monkeypatch, ends):
    closed = []
    close_recorder, close_collector = Recorder.close, Collector.close
    monkeypatch.setattr(Recorder, "close", lambda self: (closed.append("recorder"), close_recorder(self)))
    monkeypatch.setattr(Collector, "close", lambda self: (closed.append("collector"), close_collector(self)))
    if ends == "well":
        start(tmp_path).run()
    elif ends == "stopped":
        with pytest.raises(Stopped):
            start(tmp_path, *NAN, "env.kwargs.what=reward", "env.kwargs.since=1", "max_bad_updates=1").run()
    else:
        with pytest.raises(EnvironmentFault):
            start(tmp_path, "env.id=probe/Raises-v0", "env.num_envs=4", "batch_size=20", "env.kwargs.at=13").run()
    assert closed == ["collector", "recorder"]


def test_an_interrupted_run_leaves_a_checkpoint_and_its_curves(tmp_path):
    run = start(tmp_path)
    learn, count = run.agent.learn, []

    def interrupted(*arguments):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return learn(*arguments)

    run.agent.learn = interrupted
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert saved(tmp_path)[0] == 160
    assert [step for step, _ in scalars(tmp_path)["step/kl"]] == [80, 160]


@pytest.mark.parametrize("weighting", ["uniform", "discounted"])
def test_states_are_weighted_as_the_configuration_says(weighting, monkeypatch):
    run = make_trainer("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "gamma=0.9", "dtype=float64",
                       f"state_weighting={weighting}")  # fmt: skip
    seen = {}
    for name in ("actor", "critic"):
        learner = getattr(run.agent, name)

        def spy(theta, state, samples, *rest, name=name, train=learner.run):
            seen[name] = samples
            return train(theta, state, samples, *rest)

        monkeypatch.setattr(learner, "run", spy)
    run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    run.collector.close()
    time = torch.tensor([[t, t] for t in [0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2, 0, 1, 2, 3, 0]]).flatten()
    expected = 0.9 ** time.double() if weighting == "discounted" else torch.ones(40, dtype=torch.float64)
    for samples in seen.values():
        torch.testing.assert_close(samples.weight, expected, rtol=1e-14, atol=0)
    share = seen["actor"].weight / seen["actor"].weight.sum()
    assert abs(share @ seen["actor"].advantages) < 1e-12
    assert share @ seen["actor"].advantages ** 2 == pytest.approx(1)


def test_advantages_are_computed_before_the_critic_trains(monkeypatch):
    """A critic that learns at once and far changes targets only for the next rollout."""
    run = make_trainer("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "dtype=float64", "algo=trpo")
    order, seen = [], {}
    for name in ("actor", "critic"):
        learner = getattr(run.agent, name)

        def spy(theta, state, samples, *rest, name=name, train=learner.run):
            order.append(name)
            seen[name] = (theta.clone(), samples)
            return train(theta, state, samples, *rest)

        monkeypatch.setattr(learner, "run", spy)
    before = run.state["critic"]["theta"].clone()
    run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    run.collector.close()
    assert order == ["actor", "critic"]
    assert torch.equal(seen["critic"][0], before)
    values = run.agent.critic.update.network.outputs(before, seen["critic"][1].inputs)
    assert torch.equal(seen["critic"][1].old_outputs, values)


def test_recomputed_advantages_follow_the_critic_epoch_by_epoch(monkeypatch):
    run = make_trainer("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "algo=ppo", "schedule.minibatch=20",
                       "schedule.epochs=3", "critic.schedule.epochs=2")  # fmt: skip
    order, advantages = [], []
    for name in ("actor", "critic"):
        learner = getattr(run.agent, name)

        def spy(theta, state, samples, generator, epochs, name=name, train=learner.run):
            order.append((name, epochs))
            if name == "actor":
                advantages.append(samples.advantages.clone())
            return train(theta, state, samples, generator, epochs)

        monkeypatch.setattr(learner, "run", spy)
    run.agent.learn(run.state, run.collector.collect(run.agent.policy(run.state)), run.minibatches)
    run.collector.close()
    assert order == [("actor", 1), ("critic", 1), ("actor", 1), ("critic", 1), ("actor", 1)]
    assert not torch.equal(advantages[0], advantages[1]) and not torch.equal(advantages[1], advantages[2])
