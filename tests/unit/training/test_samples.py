"""Samples of the networks of a run: one for each transition, targets and old values beside them."""

import pytest
import torch

from tests.support.probes import make_trainer

SMALL = ["env=cartpole", "env.num_envs=2", "batch_size=40", "policy.hidden=[4]", "critic.hidden=[4]", "dtype=float64"]


@pytest.mark.parametrize("shared", [False, True])
def test_targets_and_values_of_all_samples_are_flat(shared, tmp_path):
    typed = ["critic=shared"] if shared else []
    small = [s for s in SMALL if not (shared and s.startswith("critic."))]
    run = make_trainer(*small, "algo=a2c", *typed, f"run_dir={tmp_path}/run")
    batch = run.collector.collect(run.agent.policy(run.state))
    scaled = run.agent._scale(run.state, batch)
    values = run.agent._values(run.state, scaled.batch)
    advantages, targets = run.agent._advantages(scaled, values)
    found, scalars = run.agent._maker.samples(scaled.batch, advantages, targets, values)
    run.collector.close()
    assert found.keys() == ({"actor"} if shared else {"actor", "critic"}) and scalars == {}
    of_values = found["actor" if shared else "critic"]
    flat, old = run.agent._maker.flat(found, scaled.batch, targets, values)
    assert torch.equal(flat, targets.flatten()) and torch.equal(old, values.inputs[:-1].flatten())
    assert torch.equal(of_values.actions[:, 0], flat) and torch.equal(of_values.old_outputs[:, 0], old)
    actor = found["actor"]
    assert abs(float(actor.share @ actor.advantages)) < 1e-12
    assert float(actor.share @ actor.advantages**2) == pytest.approx(1)
