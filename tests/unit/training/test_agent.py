"""What the agent gives its learners: weights of states, and advantages by the critic as it stands."""

import pytest
import torch

from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")


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


@pytest.mark.parametrize("env", ["cartpole", "pendulum", "halfcheetah"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_first_policy_hardly_depends_on_the_normaliser(env, seed):
    """What policy/normalisers.py says: below .001 nats between zeros and the first rollout's own statistics."""
    run = make_trainer(f"env={env}", "env.num_envs=8", "batch_size=1024", f"seed={seed}")
    rollout = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    normaliser, state = run.agent.observations, run.state["observations"]
    assert normaliser.is_new(state)
    merged = normaliser.merge(state, rollout.visited)
    seen = rollout.seen_by(run.agent.policy({"actor": run.state["actor"], "observations": merged}))
    assert not seen.inputs.equal(rollout.inputs)
    kl = run.agent.head.kl(rollout.outputs.flatten(0, 1), seen.outputs.flatten(0, 1)).mean()
    assert 0 < kl < 1e-3
