"""Values of a rollout: V at every observation and at truncated episodes' last ones; with a memory, step by step."""

import pytest
import torch

from rlopt.training.values import values_of
from tests.support.probes import make_trainer

pytestmark = pytest.mark.usefixtures("probe_environments")


def rollout(*options):
    run = make_trainer("env.id=probe/Counter-v0", "env.num_envs=2", "batch_size=40", "dtype=float64", *options)
    batch = run.collector.collect(run.agent.policy(run.state))
    run.collector.close()
    return run, run.agent._scale(run.state, batch).batch


def test_values_are_the_critics_outputs_at_every_observation():
    run, batch = rollout()
    network, state = run.agent.critic.update.network, run.state["critic"]
    found = values_of(network, state, batch, torch.device("cpu"), of_policy=False)
    assert found.inputs.shape == (21, 2) and found.memory is None
    for t in range(21):
        expected = network.outputs(state["theta"], batch.inputs[t])[:, 0]
        torch.testing.assert_close(found.inputs[t], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.final, network.outputs(state["theta"], batch.final)[:, 0], rtol=1e-12, atol=1e-12)


def test_memory_begins_anew_with_every_episode():
    run, batch = rollout("policy=gru", "critic=gru", "schedule.sequence=20", "critic.schedule.sequence=20")
    network, state = run.agent.critic.update.network, run.state["critic"]
    found = values_of(network, state, batch, torch.device("cpu"), of_policy=False)
    assert batch.begins.any() and not found.memory[:-1][batch.begins].any()
    memory = state["memory"]
    for t in range(21):
        if t < 20:
            memory = torch.where(batch.begins[t][:, None], 0.0, memory)
        torch.testing.assert_close(found.memory[t], memory, rtol=1e-12, atol=1e-12)
        row = torch.cat([batch.inputs[t], torch.zeros(2, 1, dtype=memory.dtype), memory], 1)
        z, memory = network.unroll(state["theta"], row, 1)
        torch.testing.assert_close(found.inputs[t], z[:, 0], rtol=1e-12, atol=1e-12)
