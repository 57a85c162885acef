"""Intrinsic advantages against numpy, with every algorithm; what is left out, and what cannot be combined."""

import numpy as np
import pytest
import torch

import rlopt
from rlopt.config.compose import compose
from rlopt.errors import UserError
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments", "elsewhere")
SMALL = ["exploration=rnd", "exploration.hidden=[5]", "exploration.predictor=[6]", "exploration.features=3",
         "env.num_envs=2", "batch_size=40", "dtype=float64", "evaluation.episodes=0"]  # fmt: skip
NETWORKS = ["policy.hidden=[4]", "critic.hidden=[4]"]


def once(run):
    batch = run.collector.collect(run.agent.policy(run.state))
    before = run.state
    run.state, result = run.agent.learn(before, batch, run.minibatches)
    return batch, before, result


@pytest.mark.parametrize("env", ["env.id=probe/Counter-v0", "env.id=probe/Offers-v0"])
def test_advantages_are_the_sum_of_two(env):
    """Returns go on over the ends of episodes; a truncated episode leads to its last observation."""
    typed = [*NETWORKS, env, "exploration.coefficient=3.0", "exploration.gamma=0.8", "advantages.normalise=false"]
    run = make_trainer(*SMALL, *typed)
    for _ in range(2):  # the second has moments, and returns, of the first
        once(run)
    batch = run.collector.collect(run.agent.policy(run.state))
    found, state, novelty = run.agent._estimate(run.state, batch), run.state["exploration"], run.agent._explorer.novelty
    D = novelty.size
    led_to = torch.cat([batch.observations[1:], batch.following])[..., :D].clone()
    assert len(batch.raw_final) > 0
    for n, (t, e) in enumerate(zip(*batch.final_index, strict=True)):
        led_to[t, e] = batch.raw_final[n, :D]
    state = novelty.see(state, batch.observations[..., :D].flatten(0, 1))
    errors = novelty.errors(state, novelty.whitened(state, led_to.flatten(0, 1))).view(20, 2)
    rewards = novelty.scaled(state, errors)[1].numpy()
    critic = run.state["exploration"]["critic"]["theta"]
    network = run.agent._explorer.critic.update.network
    v = network.outputs(critic, batch.inputs.flatten(0, 1)).view(21, 2).numpy()
    A, following = np.zeros((20, 2)), 0
    for t in reversed(range(20)):
        A[t] = following = rewards[t] + 0.8 * v[t + 1] - v[t] + 0.8 * 0.95 * following
    run.agent._explorer, explorer = None, run.agent._explorer
    alone = run.agent._estimate(run.state, batch)
    run.agent._explorer = explorer
    got = found.samples["actor"].advantages - alone.samples["actor"].advantages
    assert np.allclose(got.view(20, 2), 3 * A)
    targets = found.scaled.explored.samples.actions.view(20, 2)
    assert np.allclose(targets, A + v[:-1])
    assert torch.equal(found.targets, alone.targets)  # the environment's critic learns what it did
    run.collector.close()


@pytest.mark.parametrize(
    "algo", ["vpg", "svrpg", "storm_pg", "a2c", "npg", "trpo", "acktr", "ppo", "gauss_newton", "ggn", "newton"]
)
def test_every_algorithm_explores(algo):
    own = ["advantages.normalise=false"] if algo in ("svrpg", "storm_pg") else []
    run = make_trainer(*SMALL, *NETWORKS, *own, "env=pendulum", f"algo={algo}", "dtype=float32")
    _, before, result = once(run)
    assert result.failure is None
    assert {"exploration/error", "exploration/reward", "exploration/explained_variance"} <= set(result.scalars)
    old, new = before["exploration"], run.state["exploration"]
    assert not torch.equal(old["critic"]["theta"], new["critic"]["theta"])
    assert not torch.equal(old["predictor"], new["predictor"]) and torch.equal(old["target"], new["target"])
    run.collector.close()


@pytest.mark.parametrize("typed", [["env.backend=tensor"], ["policy=gru", "schedule.sequence=5"], ["workers=2"],
                                   ["env.id=probe/Seeing-v0", "critic.keys=[speed]"],
                                   ["env.id=probe/Dict-v0", "policy=multi_input", "critic=multi_input"]])  # fmt: skip
def test_exploration_goes_with_other_choices(typed):
    run = make_trainer(*SMALL, "algo=trpo", *typed)
    for _ in range(2):
        _, _, result = once(run)
        assert result.failure is None
    run.collector.close()


def test_without_it_a_run_has_none():
    run = make_trainer("env=cartpole", *NETWORKS, "batch_size=40", "env.num_envs=2")
    run.collector.close()
    assert run.config.exploration is None and "exploration" not in run.state
    assert (
        compose([])["exploration"] is None
        and compose(["exploration=rnd", "exploration.lr=0.1"])["exploration"]["lr"] == 0.1
    )
    assert compose(["exploration=null"])["exploration"] is None


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["exploration=rnd", "critic=shared"], "exploration=rnd makes a second critic .* type critic=mlp"),
        (["exploration=rnd", "critic=gru"], "without memory.*type critic=mlp"),
        (["exploration=rnd", "algo=nac"], "no compatible features; type critic=mlp"),
        (["exploration=rnd", "reuse.batches=2"], "set reuse.batches=1, or exploration=null"),
        (["exploration=rnd", "exploration.share=2"], "exploration.share must be above 0, and at most 1"),
        (["exploration.lr=0.1"], "exploration.lr has no effect here; it is an option of exploration=rnd"),
        (["exploration=curiosity"], "no such exploration"),
        (
            ["exploration=rnd", "env.id=probe/Image-v0", "policy=small_cnn", "critic=small_cnn"],
            "exploration=rnd sees numbers",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused_in_one_line(typed, says):
    with pytest.raises(UserError, match=says) as error:
        make_trainer(*typed)
    assert "\n" not in str(error.value)


def test_a_network_that_is_not_finite_returns_to_where_it_was(monkeypatch):
    run = make_trainer(*SMALL, *NETWORKS, "env=cartpole")
    novelty = run.agent._explorer.novelty
    learn = novelty.learn
    monkeypatch.setattr(novelty, "learn", lambda *given: {**learn(*given), "predictor": torch.tensor([torch.nan])})
    _, before, result = once(run)
    assert result.failure == "exploration predictor after the update" and result.skipped == 1
    assert torch.equal(run.state["exploration"]["predictor"], before["exploration"]["predictor"])
    run.collector.close()


def test_a_rollout_that_is_not_finite_changes_nothing():
    run = make_trainer(*SMALL, *NETWORKS, "env=cartpole")
    once(run)
    batch = run.collector.collect(run.agent.policy(run.state))
    batch.following[0, 0, 0] = torch.nan
    state, result = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    assert state is run.state and result.skipped == 1


def test_the_policy_of_such_a_run_is_loaded_and_cloned_from(tmp_path):
    trained = rlopt.train(*SMALL, *NETWORKS, "env=cartpole", "total_steps=80", run_dir=tmp_path / "run")
    assert rlopt.load(trained.run_dir)(np.zeros(4)) in (0, 1)
    again = rlopt.train(*NETWORKS, "env=cartpole", "total_steps=80", "batch_size=40", "evaluation.episodes=0",
                        f"init.from={trained.run_dir}", run_dir=tmp_path / "again")  # fmt: skip
    assert again.summary["steps"] == 80
