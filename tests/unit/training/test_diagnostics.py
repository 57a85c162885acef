"""A spectrum is that of the metric of the update that is coming."""

import pytest
import torch

from rlopt.training.diagnostics import compute_diagnostics
from tests.support import oracles
from tests.support.building import resolve, trainer

OPTIONS = ["algo=trpo", "env=cartpole", "batch_size=80", "policy.hidden=[3]", "critic.hidden=[3]", "dtype=float64",
           "policy.last_gain=1.0", "objective=kl_penalty", "metric=hessian", "objective.beta=1",
           "record.spectrum_every=1"]  # fmt: skip


@pytest.mark.parametrize("beta", [1.0, 30.0])
def test_the_spectrum_is_that_of_the_objective_as_it_stands(beta):
    run = trainer(resolve(OPTIONS))
    actor = run.state["actor"]
    state = {**run.state, "actor": {**actor, "parts": {**actor["parts"], "objective": {"beta": beta}}}}
    try:
        batch = run.collector.collect(run.agent.policy(state))
    finally:
        run.collector.close()
    found = compute_diagnostics(run.config, 1, run.agent, state, state, batch, {}).scalars

    network = run.agent.actor.update.network
    samples = run.agent.actor_samples(state, batch)
    case = oracles.Case(network.module, network, run.agent.head, actor["theta"], samples)
    H = oracles.hessian(lambda t: oracles.objective(case, "surrogate", t) - beta * oracles.mean_kl(case, t), case.theta)
    mu = torch.linalg.eigvalsh(-H)
    assert found["metric/largest"] == pytest.approx(float(mu[mu.abs().argmax()]), rel=1e-6)
