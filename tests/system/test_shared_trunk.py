"""Policy and value from one network, through a whole run."""

import json

import pytest
import torch

from rlopt.checkpoint import manager as checkpoint
from rlopt.cli import main as cli
from rlopt.config import check_config
from rlopt.config.saved import load
from rlopt.core.heads import Categorical, DiagonalGaussian, Joint
from rlopt.training.restore import restore_run
from tests.support.building import resolve, trainer
from tests.support.probes import make_trainer
from tests.support.training import scalars

pytestmark = pytest.mark.usefixtures("probe_environments")

SMALL = ["critic=shared", "env.num_envs=4", "policy.hidden=[8]", "evaluation.episodes=2"]
TWENTY = [*SMALL, "env=cartpole", "batch_size=64", "total_steps=1280"]
COUNTER = [*SMALL, "env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "dtype=float64"]
PRESETS = {
    "vpg": ["algo=vpg"],
    "ppo": ["algo=ppo", "schedule.epochs=2", "schedule.minibatch=32", "objective.entropy=0.01"],
    "trpo": ["algo=trpo"],
    "kfac": ["algo=trpo", "solver=kfac", "step=kl_clip", "solver.decay=0.9"],
    "sampled": ["algo=npg", "metric.samples=2", "solver=ekfac", "step=kl_clip"],
    "ggn": ["algo=npg", "metric=ggn", "solver=cg", "damping.value=0.1"],
    "hessian": ["algo=npg", "metric=hessian", "solver=cg", "step=kl_line_search"],
    "empirical": ["algo=npg", "metric=empirical_fisher", "solver=gram", "advantages.recompute=true"],
}  # fmt: skip


def learn(run):
    batch = run.collector.collect(run.agent.policy(run.state))
    state, lesson = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    assert lesson.failure is None
    return batch, state, lesson


def spied(run):
    """Samples that every call of the learner is given, and for how many epochs."""
    given, train = [], run.agent.actor.run

    def spy(theta, state, samples, generator, epochs):
        given.append((samples, epochs))
        return train(theta, state, samples, generator, epochs)

    run.agent.actor.run = spy
    return given


@pytest.mark.parametrize("env", ["cartpole", "pendulum"])
@pytest.mark.parametrize("preset", PRESETS)
def test_twenty_updates_train_the_one_network(preset, env, tmp_path):
    run = trainer(resolve([*TWENTY, *PRESETS[preset], f"env={env}", f"run_dir={tmp_path}/run"]))
    before = run.state["actor"]["theta"].clone()
    summary = run.run()
    assert summary["steps"] == 1280 and run.updates == 20 and run.skipped == 0
    assert "critic" not in run.state and run.agent.critic is None
    assert isinstance(run.agent.actor.update.head, Joint)
    assert isinstance(run.agent.head, Categorical | DiagonalGaussian)
    assert run.state["actor"]["theta"].isfinite().all()
    assert not torch.equal(run.state["actor"]["theta"], before)
    seen = scalars(tmp_path / "run")
    assert {"critic/loss", "critic/explained_variance", "policy/kl", "step/kl"} <= set(seen)
    assert "critic/step_size" not in seen
    for (_, both), (_, own) in zip(seen["step/kl"], seen["policy/kl"], strict=True):
        assert both >= own >= -1e-6


def test_one_network_learns_value_and_policy_from_one_batch():
    run = make_trainer(*COUNTER, "algo=trpo", "rewards.scale=false", "advantages.normalise=false",
                       "observations.normalise=false")  # fmt: skip
    given, before = spied(run), run.state["actor"]["theta"].clone()
    batch, _, _ = learn(run)
    ((samples, epochs),) = given
    network, head = run.agent.actor.update.network, run.agent.actor.update.head
    z = network.outputs(before, batch.inputs[:-1].flatten(0, 1))
    torch.testing.assert_close(samples.old_outputs, z, rtol=1e-12, atol=1e-12)
    assert epochs == 1 and float(samples.mean(head.kl(samples.old_outputs, z))) < 1e-20
    targets, actions = head.unpack(samples.actions)
    assert torch.equal(actions, batch.actions.flatten(0, 1))
    assert torch.equal(samples.old_log_prob, run.agent.head.log_prob(batch.outputs.flatten(0, 1), actions))
    torch.testing.assert_close(targets.squeeze(1) - z[:, 0], samples.advantages, rtol=1e-10, atol=1e-10)
    assert batch.outputs.shape[2] == z.shape[1] - 1  # who acts sees the policy's outputs alone


def test_recomputed_advantages_follow_the_value_epoch_by_epoch():
    run = make_trainer(*COUNTER, "algo=ppo", "schedule.minibatch=20", "schedule.epochs=3")
    given = spied(run)
    learn(run)
    assert [epochs for _, epochs in given] == [1, 1, 1]
    first, second, third = (samples for samples, _ in given)
    assert torch.equal(first.old_outputs, third.old_outputs)  # what acted stays what acted
    for a, b in ((first, second), (second, third)):
        assert not torch.equal(a.advantages, b.advantages) and not torch.equal(a.actions, b.actions)


@pytest.mark.parametrize(("target", "steps"), [(0.05, 4), (1e-9, 1)])
def test_the_target_kl_is_the_policys_alone(target, steps):
    run = make_trainer(*COUNTER, "algo=ppo", "schedule.epochs=4", "optimizer.lr=1e-2", "advantages.recompute=false",
                       "critic.variance=1e-3", f"schedule.target_kl={target}")  # fmt: skip
    _, state, lesson = learn(run)
    assert lesson.scalars["policy/kl"] < 0.05 < lesson.scalars["step/kl"]
    assert state["actor"]["parts"]["step"]["moments"]["step"] == steps


def test_the_weight_of_the_value_reaches_the_gradient():
    norms = []
    for weight in (1e-9, 1.0):
        run = make_trainer(*COUNTER, "algo=vpg", f"critic.value_weight={weight}")
        assert run.agent.actor.update.objective.value_weight == weight
        norms.append(learn(run)[2].scalars["objective/gradient_norm"])
    assert norms[1] > 2 * norms[0] > 0


def test_a_saved_run_is_evaluated_and_inspected(tmp_path, capsys):
    folder = tmp_path / "run"
    config = resolve([*TWENTY, "algo=ppo", "total_steps=256", "averaging.kind=uniform", f"run_dir={folder}"])
    run = trainer(config)
    run.run()
    assert set(config["critic"]) == {"_target_", "variance", "value_weight"}
    tree = checkpoint.load_newest(folder)[1]["agent"]
    assert "critic" not in tree and not torch.equal(tree["actor"]["average"]["theta"], tree["actor"]["theta"])
    restored, _ = restore_run(check_config(load(folder / "config.yaml")), folder)
    head, frozen = restored.agent.head, restored.agent.evaluated_policy(restored.state)
    assert torch.equal(frozen.theta, tree["actor"]["average"]["theta"])
    assert head == Categorical(2) and frozen.outputs(torch.zeros(3, 4)).shape == (3, 2)
    capsys.readouterr()
    assert cli.main(["eval", str(folder), "--episodes", "3", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["sampled"]["returns"]) == 3
    assert (
        cli.main(["inspect", str(folder), "--samples", "32", "--metric", "fisher,ggn", "--solver", "cg,kfac", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert len(found["directions"]) == 4 and all(d["kl"] > 0 for d in found["directions"])
