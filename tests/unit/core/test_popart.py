"""PopArt: statistics against their definition, values preserved, and what a run's critic does with both."""

import numpy as np
import pytest
import torch
from torch import nn

import rlopt
from rlopt.config import check_config, read_config
from rlopt.config.saved import load_run
from rlopt.core.network import Network
from rlopt.core.popart import FLOOR, UNSCALED, PopArt, can_preserve, preserve_, shift_and_scale, to_outputs, to_values
from rlopt.core.samples import Samples
from rlopt.errors import UserError
from rlopt.training.factory import build
from rlopt.training.initial import start_from
from rlopt.training.restore import restore_run
from tests.support.building import resolve, trainer
from tests.support.oracles import bits, close, mlp, randn
from tests.support.probes import make_trainer

SMALL = ["env=cartpole", "env.num_envs=2", "batch_size=40", "total_steps=160", "policy.hidden=[8]", "critic.hidden=[8]",
         "dtype=float64", "evaluation.episodes=2"]  # fmt: skip
POPART = "critic.targets.normalise=true"


def samples(targets, weight=None, old=None) -> Samples:
    targets = torch.as_tensor(targets, dtype=torch.float64)
    weight = torch.ones(len(targets), dtype=torch.float64) if weight is None else weight
    old = torch.zeros_like(targets) if old is None else old
    return Samples(inputs=targets[:, None], actions=targets[:, None], weight=weight, old_outputs=old[:, None])


@pytest.mark.parametrize("decay", [0.0, 0.7, 0.95])
def test_statistics_are_the_unbiased_decayed_averages(decay):
    popart, batches = PopArt(decay), [(5 + 3 * randn(6 + i, seed=i), randn(6 + i, seed=10 + i).abs()) for i in range(5)]
    state = popart.init()
    for n in range(1, 6):
        state = popart.merge(state, samples(*batches[n - 1]))
        ages = decay ** np.arange(n)[::-1] if decay else np.eye(n)[-1]
        moments = [[float((w / w.sum()) @ y**k) for y, w in batches[:n]] for k in (1, 2)]
        mean, square = (float(ages @ m) / ages.sum() for m in moments)
        shift, scale = shift_and_scale(state)
        assert shift == pytest.approx(mean, rel=1e-12) and scale == pytest.approx((square - mean**2) ** 0.5, rel=1e-10)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [([0.0, 0.0], (0.0, 1.0)), ([7.0, 7.0], (7.0, 7 * FLOOR)), ([-1.0, 1.0], (0.0, 1.0)), ([2e6, 4e6], (3e6, 1e6))],
)
def test_the_scale_is_never_0(targets, expected):
    assert shift_and_scale(PopArt(0.9).init()) == shift_and_scale(UNSCALED) == (0.0, 1.0)
    assert shift_and_scale(PopArt(0.9).merge(PopArt(0.9).init(), samples(targets))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sizes", [(3, 1), (3, 5, 1), (3, 1, 4, 1)])
def test_values_stay_as_they_are_when_the_statistics_change(sizes):
    module = mlp(sizes)
    network, x = Network(module), randn(20, 3, seed=5)
    theta = network.layout.flatten(module)
    V = network.outputs(theta, x)[:, 0].clone()
    before, first, moved = UNSCALED, theta.clone(), theta.clone()
    for mean, square in ((4.0, 17.0), (-300.0, 1e6), (1e-3, 1e-5), (0.0, 0.0)):
        after = {"mean": mean, "square": square}
        preserve_(moved, network.layout, before, after)
        found = to_values(after, network.outputs(moved, x)[:, 0])
        assert close(found, V, 1e-12)
        before = after
    assert close(moved, theta, 1e-12) and torch.equal(theta, first)
    assert can_preserve(network, theta, 3)


def test_a_last_layer_that_cannot_follow_is_seen():
    class Squared(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1, dtype=torch.float64)

        def forward(self, x):
            return self.layer(x) ** 2

    for module in (mlp((3, 4, 1), bias=False), Squared(), mlp((3, 4))):
        network = Network(module)
        assert not can_preserve(network, network.layout.flatten(module), 3)


def test_targets_and_old_values_are_seen_in_units_of_the_outputs():
    given = samples([1.0, 5.0], old=torch.tensor([3.0, 9.0], dtype=torch.float64))
    found = to_outputs({"mean": 3.0, "square": 13.0}, given)
    assert found.actions[:, 0].tolist() == [-1.0, 1.0] and found.old_outputs[:, 0].tolist() == [0.0, 3.0]
    assert torch.equal(found.inputs, given.inputs) and torch.equal(found.share, given.share)
    assert to_values({"mean": 3.0, "square": 13.0}, found.actions).tolist() == given.actions.tolist()


@pytest.mark.parametrize("algo", ["trpo", "acktr", "ppo"])
def test_a_runs_critic_learns_from_normalised_targets(algo, monkeypatch, tmp_path):
    run = make_trainer(*SMALL, f"algo={algo}", POPART, f"run_dir={tmp_path}/run")
    learner, seen = run.agent.critic, []

    def spy(theta, state, samples, generator, epochs, train=learner.run):
        seen.append((theta.clone(), samples))
        return train(theta, state, samples, generator, epochs)

    monkeypatch.setattr(learner, "run", spy)
    for _ in range(2):
        batch, before = run.collector.collect(run.agent.policy(run.state)), run.state["critic"]
        run.state, result = run.agent.learn(run.state, batch, run.minibatches)
        theta, given = seen[0]
        after = run.state["critic"]["targets"]
        V = to_values(before["targets"], learner.update.network.outputs(before["theta"], given.inputs)[:, 0])
        assert close(to_values(after, learner.update.network.outputs(theta, given.inputs)[:, 0]), V, 1e-12)
        assert close(to_values(after, given.old_outputs[:, 0]), V, 1e-12)
        targets = to_values(after, given.actions[:, 0])
        assert after == pytest.approx(PopArt(0.95).merge(before["targets"], samples(targets)), rel=1e-12)
        assert (result.scalars["critic/target_mean"], result.scalars["critic/target_std"]) == shift_and_scale(after)
        values = to_values(after, learner.update.network.outputs(run.state["critic"]["theta"], given.inputs)[:, 0])
        last = to_values(after, seen[-1][1].actions[:, 0])
        assert result.scalars["critic/loss"] == pytest.approx(float(((last - values) ** 2).mean()), rel=1e-9)
        seen.clear()
    run.collector.close()


def test_the_first_update_changes_the_critics_units_alone(tmp_path):
    """Values are preserved, and so are advantages and the policy's step."""
    thetas = []
    for i, typed in enumerate(([], [POPART])):
        run = make_trainer(*SMALL, "algo=trpo", *typed, f"run_dir={tmp_path}/{i}")
        batch = run.collector.collect(run.agent.policy(run.state))
        state, _ = run.agent.learn(run.state, batch, run.minibatches)
        run.collector.close()
        thetas.append(state)
    assert torch.equal(thetas[0]["actor"]["theta"], thetas[1]["actor"]["theta"])
    assert not torch.equal(thetas[0]["critic"]["theta"], thetas[1]["critic"]["theta"])
    assert "targets" not in thetas[0]["critic"]


def test_a_critic_that_goes_back_goes_back_to_its_statistics(monkeypatch, tmp_path):
    run = make_trainer(*SMALL, "algo=trpo", POPART, f"run_dir={tmp_path}/run")
    batch = run.collector.collect(run.agent.policy(run.state))
    before = bits(run.state["critic"]["theta"]), dict(run.state["critic"]["targets"])
    learner = run.agent.critic

    def spoil(theta, state, samples, generator, epochs, train=learner.run):
        theta, state, result = train(theta, state, samples, generator, epochs)
        return theta * torch.nan, state, result

    monkeypatch.setattr(learner, "run", spoil)
    state, result = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    assert result.failure == "critic theta after the update"
    assert (bits(state["critic"]["theta"]), state["critic"]["targets"]) == before


@pytest.mark.parametrize("critic", ["gru", "lstm"])
def test_a_critic_with_memory_normalises_too(critic, tmp_path):
    small = [option for option in SMALL if "hidden" not in option]
    run = make_trainer(
        *small,
        "algo=ppo",
        f"critic={critic}",
        "critic.size=4",
        "critic.schedule.sequence=20",
        "critic.schedule.minibatch=20",
        POPART,
        f"run_dir={tmp_path}/run",
    )
    batch = run.collector.collect(run.agent.policy(run.state))
    state, result = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    assert result.failure is None and state["critic"]["targets"]["weight"] == pytest.approx(0.05)


@pytest.mark.parametrize("then", [[POPART], []], ids=["normalises", "does not"])
@pytest.mark.parametrize("first", [[POPART], []], ids=["from normalised", "from plain"])
def test_a_run_that_starts_from_another_has_its_values(first, then, tmp_path):
    rlopt.train(*SMALL, "algo=trpo", *first, f"run_dir={tmp_path}/first")
    config = read_config([*SMALL, "algo=trpo", *then, f"init.from={tmp_path}/first"])
    run = build(config, tmp_path / "then", begin=start_from)
    run.collector.close()
    other, _ = restore_run(check_config(load_run(tmp_path / "first")), tmp_path / "first")
    x, network = randn(9, 4), run.agent.critic.update.network
    V = [
        to_values(s["critic"].get("targets"), network.outputs(s["critic"]["theta"], x)[:, 0])
        for s in (other.state, run.state)
    ]
    assert close(V[1], V[0], 1e-12)


def test_a_critic_without_a_bias_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs a critic whose last layer is an nn.Linear with a bias; choose"):
        trainer(resolve([*SMALL, POPART, "critic.bias=false", f"run_dir={tmp_path}/run"]))


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match="decay must be 0 or above, and below 1"):
        PopArt(decay)
