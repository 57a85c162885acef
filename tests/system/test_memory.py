"""Runs whose policy and critic have memory: what they learn from is what acted, wherever episodes begin and end."""

import copy

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import rlopt
from rlopt.config.extensions import extended
from rlopt.evaluation.episodes import evaluate
from rlopt.policy.policy import Policy
from rlopt.rollout.collector import Collector
from rlopt.rollout.seeding import Purpose, integer
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments", "elsewhere")
SMALL = ["dtype=float64", "env.num_envs=3", "batch_size=60", "schedule.sequence=5", "policy.hidden=[6]",
         "policy.size=4", "policy.last_gain=1.0", "evaluation.episodes=0"]  # fmt: skip
OWN = ["critic.hidden=[6]", "critic.size=3", "critic.schedule.sequence=4", "critic.schedule.minibatch=20"]
CRITICS = {
    "gru": ["policy=gru", "critic=gru", *OWN],
    "lstm": ["policy=lstm", "critic=lstm", *OWN],
    "shared": ["policy=lstm", "critic=shared"],
    "memoryless": ["policy=gru", "critic.hidden=[6]"],
}


def stepper(run, name):
    """o (N, D) normalised, m (N, M) -> outputs, m' of a network, by its module alone."""
    network = run.agent.learners[name].update.network
    module = copy.deepcopy(network.module)
    views = network.layout.views(run.state[name]["theta"])
    module.load_state_dict({k: v for k, v in views.items() if k != "constants"})
    return torch.no_grad()(module.step)


def replayed(run, name, rollout, memory):
    """Outputs [T, E, .] of a network that steps through the rollout, V's of its final observations, and its memory."""
    step, outputs, final = stepper(run, name), [], {}
    ends = list(zip(*(index.tolist() for index in rollout.final_index), strict=True))
    for t in range(len(rollout.rewards)):
        memory = memory * ((rollout.time[t] > 0) | (rollout.mask[t] == 0))[:, None]
        z, memory = step(rollout.inputs[t], memory)
        outputs.append(z)
        for n, (_, e) in [(n, end) for n, end in enumerate(ends) if end[0] == t]:
            final[n] = step(rollout.final[n][None], memory[e][None])[0][0]
    following, _ = step(rollout.inputs[-1], memory)
    return torch.stack([*outputs, following]), [final[n] for n in range(len(ends))], memory


@pytest.mark.parametrize("env", ["env.id=probe/Counter-v0", "env.id=probe/Counter-v0, later", "env=pendulum"])
@pytest.mark.parametrize("critic", CRITICS)
def test_samples_and_values_are_those_of_stepping_through(critic, env):
    """From one rollout to the next too; with theta as it was the KL from the policy that acted is 0.

    Some environments reset at the step after an episode's end: that row sees its last observation, and is masked.
    """
    env, _, later = env.partition(", ")
    run = make_trainer(env, *SMALL, *CRITICS[critic])
    size = run.agent.actor.update.network.memory
    if later:
        run.collector.close()
        envs = SyncVectorEnv([run.config.env.make] * 3, autoreset_mode=AutoresetMode.NEXT_STEP)
        run.collector = Collector(envs, run.agent.head, 20, 0, torch.float64, memory=size)
    last = list(run.agent.learners)[-1]
    carried = {"actor": torch.zeros(3, size), last: torch.zeros(3, run.agent.learners[last].update.network.memory)}
    carried = {name: memory.double() for name, memory in carried.items()}
    for i in range(3):
        found = run.agent._estimate(run.state, run.collector.collect(run.agent.policy(run.state)))
        rollout, learner = found.scaled.batch, run.agent.actor
        acted, *_ = replayed(run, "actor", rollout, rollout.memory[0])
        torch.testing.assert_close(
            acted[:-1, :, -run.agent.head.network_outputs :], rollout.outputs[..., : run.agent.head.network_outputs]
        )
        theta, samples = run.state["actor"]["theta"], found.samples["actor"]
        again = learner.update.network.outputs(theta, samples.inputs)
        torch.testing.assert_close(again, samples.old_outputs, rtol=1e-8, atol=1e-8)
        assert samples.mean(learner.update.head.kl(samples.old_outputs, again)) < 1e-12
        if critic != "memoryless":
            start = rollout.memory[0] if critic == "shared" else carried[last]
            values, final, carried[last] = replayed(run, last, rollout, start)
            running = ~torch.cat([torch.zeros_like(rollout.done[:1]), rollout.done])  # row T: where its V matters
            torch.testing.assert_close(found.values.inputs[:-1], values[:-1, :, 0])
            torch.testing.assert_close(found.values.inputs[running], values[..., 0][running])
            assert len(final) == len(found.values.final)
            for v, expected in zip(found.values.final, final, strict=True):
                torch.testing.assert_close(v, expected[0])
            inputs = found.samples[last].inputs
            z = run.agent.learners[last].update.network.outputs(run.state[last]["theta"], inputs)
            torch.testing.assert_close(z[:, 0], rollout.flat(found.values.inputs[:-1]))
        if i > 1:  # the first policy sees zeros, of which there is nothing to remember
            assert (rollout.memory[0][rollout.time[0] > 0] != 0).all()
        run.state, result = run.agent.learn(run.state, rollout, run.minibatches)
        assert result.failure is None
    run.collector.close()


@pytest.mark.parametrize("algo", ["vpg", "a2c", "npg", "trpo", "ppo", "acktr"])
def test_every_preset_learns_with_memory(algo):
    sizes = ["policy.size=5", "critic.size=5", "batch_size=64", "env.num_envs=4", "schedule.sequence=8"]
    run = make_trainer(f"algo={algo}", "env=pendulum", "policy=gru", "critic=lstm", *sizes, "averaging.kind=ema",
                       "schedule.minibatch=16" if algo == "ppo" else "dtype=float32")  # fmt: skip
    before = {name: run.state[name]["theta"].clone() for name in run.agent.learners}
    for _ in range(3):
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, result = run.agent.learn(run.state, batch, run.minibatches)
        assert result.failure is None
    run.collector.close()
    assert all(not torch.equal(run.state[name]["theta"], theta) for name, theta in before.items())


@pytest.fixture
def trained():
    run = make_trainer("env.id=probe/Seeded-v0", *SMALL, *CRITICS["lstm"], "dtype=float32")
    for _ in range(2):
        batch = run.collector.collect(run.agent.policy(run.state))
        run.state, _ = run.agent.learn(run.state, batch, run.minibatches)
    run.collector.close()
    return run


def acting(run) -> Policy:
    return Policy(run.agent.evaluated_policy(run.state), run.agent.head, *run.config.env.spaces())


def test_an_evaluation_forgets_at_the_start_of_an_episode(trained):
    """As a policy does that is reset there: one environment's episodes in turn, and many side by side."""
    spec, policy = trained.config.env, acting(trained)
    found = evaluate(spec, policy.frozen, trained.agent.head, 6, 0, deterministic=True)
    env, returns = spec.make(), []
    for episode in range(6):
        observation, _ = env.reset(seed=integer(0, Purpose.EVALUATION_ENVIRONMENT, episode))
        policy.reset()
        returns.append(0.0)
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy(observation))
            returns[-1] += reward
            over = terminated or truncated
    assert found.returns == pytest.approx(returns) and len(set(returns)) > 1


def test_a_policy_has_a_state_and_forgets_when_told_to(trained):
    policy, (o, other) = acting(trained), np.random.default_rng(0).normal(size=(2, 3, 3)).astype(np.float32)
    first = policy.outputs(o)
    second = policy.outputs(other)
    assert policy.state.shape == (3, 8) and not np.array_equal(policy.outputs(other), second)
    policy.reset()
    assert policy.state is None and np.array_equal(policy.outputs(o), first)
    assert np.array_equal(policy.outputs(other), second)
    policy.reset()
    policy.outputs(o)
    policy.reset([False, True, False])
    mixed = policy.outputs(other)
    policy.reset()
    fresh = policy.outputs(other)
    assert np.array_equal(mixed[[0, 2]], second[[0, 2]]) and np.array_equal(mixed[1], fresh[1])
    with pytest.raises(ValueError, match="remembers 3 episodes, and 1 go on"):
        policy(o[0])


def test_an_exported_policy_takes_its_memory_and_returns_it(trained):
    onnxruntime = pytest.importorskip("onnxruntime")
    policy, many = acting(trained), np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)
    program = torch.export.load(rlopt.export(policy, "policy.pt2")).module()
    session = onnxruntime.InferenceSession(rlopt.export(policy, "policy.onnx"))
    memory, other = np.zeros((7, 8), np.float32), torch.zeros(7, 8)
    for o in many:
        z = policy.outputs(o)
        _, got, memory = session.run(None, {"observation": o, "memory": memory})
        _, traced, other = program(torch.from_numpy(o), other)
        for found, kept in ((got, memory), (traced.numpy(), other.numpy())):
            np.testing.assert_allclose(found, z, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(kept, policy.state, rtol=1e-5, atol=1e-5)


OWN_NETWORK = """
import torch
from torch import nn

class Mine:
    def sees(self, space):
        pass

    def build(self, space, outputs, generator):
        return nn.Sequential(nn.LayerNorm(space.shape[0], elementwise_affine=False), nn.Linear(space.shape[0], outputs))
"""


def test_a_network_of_ones_own_gets_a_memory(tmp_path):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/mine.py").write_text(OWN_NETWORK)
    cell = "memory:\n  kind: lstm\n  size: 4\n  last_gain: 1.0\n  horizon: 8.0\n"
    rest = "defaults: [_head, _self_]\n"
    (tmp_path / "policy/mine.yaml").write_text(f"# mine\n_target_: policy.mine.Mine\n{cell}{rest}")
    with extended([tmp_path]):
        run = make_trainer("env=cartpole", "policy=mine", "algo=acktr", "batch_size=64", "env.num_envs=4")
        theta = run.state["actor"]["theta"].clone()
        for _ in range(2):
            batch = run.collector.collect(run.agent.policy(run.state))
            run.state, result = run.agent.learn(run.state, batch, run.minibatches)
            assert result.failure is None
        run.collector.close()
    module = run.agent.actor.update.network.module
    assert module.memory_size == 8 and module.encoder[1].out_features == 4 and module.sequence_length == 16
    assert not torch.equal(run.state["actor"]["theta"], theta)
