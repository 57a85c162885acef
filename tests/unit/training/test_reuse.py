"""Sample reuse: what earlier batches become, against the formulas written out, and which choices go with it."""

import copy
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlopt.config import compatibility
from rlopt.config.groups import ReuseOptions
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.errors import UserError
from rlopt.training.reuse import Past, Reuse
from tests.support import oracles
from tests.support.building import resolve, trainer
from tests.support.densities import log_prob
from tests.support.oracles import close, make_case, randn
from tests.support.probes import make_trainer
from tests.support.tensors import Drift, Seen
from tests.support.updates import gradient

GAMMA, LAMBDA = 0.9, 0.8
OPTIONS = ReuseOptions(batches=3, decay=0.5, trace=1.0, largest=None)
SMALL = ["env=pendulum", "env.num_envs=2", "batch_size=40", "total_steps=400", "policy.hidden=[8]", "critic.hidden=[8]",
         "dtype=float64", "reuse.batches=3", f"gamma={GAMMA}", f"gae_lambda={LAMBDA}", "workers=1"]  # fmt: skip


@pytest.mark.parametrize("head", ["log_sigma", "categorical"])
def test_the_gradient_is_that_of_each_batchs_own_ratio(head):
    """sum_i nu_i mean_i (pi / pi_i) A at a theta that is neither pi_k nor pi_i, by autograd."""
    now, then = make_case(head, weights="masked", moved=0.0), make_case(head, weights="masked", moved=0.3)
    z_now = then.tape.outputs  # of pi_k, in the states of the earlier batch
    w = (log_prob(now.head, z_now, then.samples.actions) - then.samples.old_log_prob).exp()
    seen = then.samples.replacing(old_outputs=z_now, old_log_prob=log_prob(now.head, z_now, then.samples.actions))
    past = Past(SimpleNamespace(flat=lambda x: x), None, w)
    found, scalars = Reuse(OPTIONS, now.head, GAMMA, LAMBDA).join(
        [{"actor": now.samples}, {"actor": seen}], [past], normalise=False
    )
    theta = now.theta + 0.1 * randn(len(now.theta), seed=9)
    leaf, total = theta.clone().requires_grad_(), 0.0
    weights = [now.samples.weight, 0.5 * then.samples.weight]
    for case, weight in zip((now, then), weights, strict=True):
        log_p = log_prob(case.head, oracles.outputs(case.module, leaf, case.samples.inputs), case.samples.actions)
        values = (log_p - case.samples.old_log_prob).exp() * case.samples.advantages
        total = total + weight @ values / sum(x.sum() for x in weights)
    (g,) = torch.autograd.grad(total, leaf)
    joined = copy.copy(now)
    object.__setattr__(joined, "theta", theta)
    object.__setattr__(joined, "samples", found["actor"])
    assert close(gradient(joined, Surrogate(0.0)), g, 1e-12)
    share = torch.cat(weights) / sum(x.sum() for x in weights)
    every = torch.cat([torch.ones(17, dtype=torch.float64), w])
    mean = float(share @ every)
    assert scalars["reuse/weight"] == pytest.approx(mean, rel=1e-12)
    assert scalars["reuse/effective_share"] == pytest.approx(mean**2 / float(share @ every**2), rel=1e-12)
    assert (w - 1).abs().max() > 0.1


def expected(kept, scaler_state, run, state, values_state):
    """w, inputs, advantages and targets of a kept batch, written out for the policy and the critic in ``state``."""
    agent, (T, E) = run.agent, kept["rewards"].shape
    raw = torch.cat([kept["observations"], kept["following"]])
    inputs = agent.observations.apply(state["observations"], raw)
    head, actor, critic = agent.head, agent.actor.update.network, agent.critic.update.network
    log_p = [head.log_prob(z.flatten(0, 1), kept["actions"].flatten(0, 1)).view(T, E)
             for z in (actor.outputs(state["actor"]["theta"], inputs[:-1].flatten(0, 1)).view(T, E, -1), kept["outputs"])]  # fmt: skip
    w = (log_p[0] - log_p[1]).exp()
    r = agent.rewards.apply(scaler_state, kept["rewards"])
    V = critic.outputs(values_state["critic"]["theta"], inputs.flatten(0, 1))[:, 0].view(T + 1, E)
    last = agent.observations.apply(state["observations"], kept["raw_final"])
    following = V[1:].clone()
    following[kept["final_index"]] = critic.outputs(values_state["critic"]["theta"], last)[:, 0]
    delta = r + GAMMA * following * ~kept["terminated"] - V[:-1]
    done, rho, A = kept["terminated"] | kept["truncated"], w.clamp(max=1.0), torch.zeros(T, E)
    A = A.double()
    for e in range(E):
        for t in range(T):
            factor = 1.0
            for step in range(t, T):
                A[t, e] += factor * delta[step, e]
                if done[step, e] or step + 1 == T:
                    break
                factor *= GAMMA * LAMBDA * rho[step + 1, e]
    return w, inputs[:-1].flatten(0, 1), A, rho * A + V[:-1]


@pytest.mark.parametrize("algo", ["trpo", "ppo"])
def test_an_update_learns_from_the_last_batches_as_seen_now(algo, monkeypatch, tmp_path):
    run = make_trainer(*SMALL, f"algo={algo}", "reuse.decay=0.5", "reuse.largest=null", f"run_dir={tmp_path}/run")
    seen, kept = {}, []
    for name in ("actor", "critic"):
        learner = getattr(run.agent, name)

        def spy(theta, state, samples, *rest, name=name, train=learner.run):
            seen.setdefault(name, samples)
            return train(theta, state, samples, *rest)

        monkeypatch.setattr(learner, "run", spy)
    for k in range(5):
        batch, before = run.collector.collect(run.agent.policy(run.state)), run.state
        run.state, result = run.agent.learn(before, batch, run.minibatches)
        assert result.failure is None
        count = min(k + 1, 3)
        assert len(seen["actor"]) == len(seen["critic"]) == 40 * count and len(run.state["reuse"]) == min(k + 1, 2)
        weight = seen["actor"].weight.view(count, -1)
        assert weight.tolist() == [[0.5**i] * 40 for i in range(count)]
        parts = [expected(b, run.state["rewards"], run, before, before) for b in kept[:2]]
        if parts:
            inputs, targets = (torch.cat([x[i].reshape(40, -1) for x in parts]) for i in (1, 3))
            assert close(seen["actor"].inputs[40:], inputs, 1e-12)
            assert close(seen["critic"].actions[40:], targets, 1e-10)
            own = result.quantities["advantage"]
            A = torch.cat([own, *(x[2].flatten() for x in parts)])
            w = torch.cat([torch.ones_like(own), *(x[0].flatten() for x in parts)])
            share = weight.flatten() * w / (weight.flatten() * w).sum()
            centred = A - share @ A
            assert close(seen["actor"].advantages, w * centred / (share @ centred**2).sqrt(), 1e-9)
            assert abs(float(seen["actor"].weight @ seen["actor"].advantages)) < 1e-9
            total = float((weight.flatten() / weight.sum()) @ w)
            assert result.scalars["reuse/weight"] == pytest.approx(total, rel=1e-10)
            assert (w - 1).abs().max() > 1e-3
        kept.insert(0, {name: copy.deepcopy(getattr(batch, name)) for name in (
            "observations", "following", "actions", "outputs", "rewards", "terminated", "truncated", "raw_final", "final_index",
        )})  # fmt: skip
        if k == 0:  # the first batch is learned from as the policy with its own statistics acts
            kept[0]["outputs"] = seen["actor"].old_outputs.view(20, 2, -1).clone()
        seen.clear()
    run.collector.close()


def test_the_trust_region_holds_on_the_states_of_all_batches(monkeypatch, tmp_path):
    run = make_trainer(*SMALL, "algo=trpo", "step.radius=0.02", f"run_dir={tmp_path}/run")
    learner, seen = run.agent.actor, []

    def spy(theta, state, samples, *rest, train=learner.run):
        found = train(theta, state, samples, *rest)
        seen.append((samples, found[0]))
        return found

    monkeypatch.setattr(learner, "run", spy)
    for _ in range(4):
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, result = run.agent.learn(run.state, batch, run.minibatches)
        samples, theta = seen[-1]
        z = learner.update.network.outputs(theta, samples.inputs)
        kl = float(samples.mean(run.agent.head.kl(samples.old_outputs, z)))
        assert 0 < kl <= 0.02 and result.scalars["step/kl"] == pytest.approx(kl, rel=1e-9)
    run.collector.close()
    assert len(samples) == 120


@pytest.mark.parametrize("typed", [
    "algo=acktr", "algo=npg", "algo=a2c", "algo=vpg", "algo=ppo objective=spo", "algo=ppo objective=kl_penalty",
    "algo=ppo critic=shared advantages.recompute=false", "algo=acktr critic=shared", "algo=trpo policy.head=beta",
    "algo=trpo env=cartpole critic.targets.normalise=true", "algo=trpo state_weighting=discounted noise.color=1",
    "algo=trpo metric=ggn damping=levenberg_marquardt", "algo=ppo scheduler=kl_adaptive advantages.normalise=false",
])  # fmt: skip
def test_it_goes_with_other_choices(typed, tmp_path):
    small = [s for s in SMALL if not ("env=cartpole" in typed and s == "env=pendulum")]
    small = [s for s in small if not ("critic=shared" in typed and s.startswith("critic."))]
    run = make_trainer(*small, *typed.split(), f"run_dir={tmp_path}/run")
    before = run.state["actor"]["theta"].clone()
    for _ in range(3):
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, result = run.agent.learn(run.state, batch, run.minibatches)
        assert result.failure is None and np.isfinite(list(result.scalars.values())).all()
    run.collector.close()
    assert not torch.equal(run.state["actor"]["theta"], before) and "reuse/weight" in result.scalars


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("algo=ppo policy=gru critic=gru", "reuse.batches=3 sees batches again, and the memory"),
        ("algo=nac", "critic=lstd is for actions of the policy that learns"),
        ("algo=svrpg", "estimator=svrpg is for actions of the policy that learns"),
        ("algo=npg metric=episode_fisher", "metric=episode_fisher is for actions of the policy that learns"),
        ("algo=npg metric.samples=taken", "metric=fisher is for actions of the policy that learns"),
        ("algo=ppo advantages.normalise=minibatch", "add advantages.normalise=batch"),
        ("reuse.batches=0", "reuse.batches must be 1 or above, at most 100; got 0"),
        ("reuse.decay=0", "reuse.decay must be above 0, and at most 1; got 0"),
        ("reuse.trace=0", "reuse.trace must be a finite number above 0"),
        ("reuse.batches=1 reuse.decay=0.5", "reuse.decay has no effect with reuse.batches=1"),
    ],
)  # fmt: skip
def test_what_does_not_go_with_it_is_refused(typed, says, tmp_path):
    given = [] if "reuse.batches" in typed else ["reuse.batches=3"]
    with pytest.raises(UserError, match=says):
        trainer(resolve(["env=pendulum", *given, *typed.split(), f"run_dir={tmp_path}/run"]))


def test_a_matrix_of_samples_counts_those_of_all_batches(tmp_path):
    typed = ["env=pendulum", "algo=npg", "solver=gram", "batch_size=4096", f"run_dir={tmp_path}/run"]
    trainer(resolve(typed)).collector.close()
    with pytest.raises(UserError, match="gram"):
        trainer(resolve([*typed, "reuse.batches=4"]))


def test_bytes_of_tensors_are_kept_with_the_type_of_inputs(tmp_path):
    task = Drift(np.uint8)
    spaces = task.observation_space, task.action_space
    gym.register("test/Bytes-v0", vector_entry_point=lambda num_envs, device, dtype: Seen(
        task, num_envs, device, dtype, 9, *spaces))  # fmt: skip
    small = [s for s in SMALL if s != "env=pendulum"]
    try:
        run = make_trainer(*small, "algo=ppo", "env.id=test/Bytes-v0", f"run_dir={tmp_path}/run")
        for _ in range(3):
            batch = run.collector.collect(run.agent.policy(run.state))
            run.state, result = run.agent.learn(run.state, batch, run.minibatches)
            assert result.failure is None
        assert batch.observations.dtype == torch.uint8 and run.state["reuse"]["0"]["inputs"].dtype == torch.float64
        assert "reuse/weight" in result.scalars
    finally:
        del gym.registry["test/Bytes-v0"]


def test_it_is_refused_on_several_ranks(monkeypatch, tmp_path):
    monkeypatch.setattr(compatibility, "world_size", lambda: 2)
    with pytest.raises(UserError, match="reuse.batches=3 keeps batches in one process; run without torchrun"):
        resolve([*SMALL, "algo=ppo", f"run_dir={tmp_path}/run"])
