"""A spectrum is that of the metric of the update that is coming; the waste of an update is that of its two thetas."""

import pytest
import torch

from rlopt.training.diagnostics import compute_diagnostics
from tests.support import oracles
from tests.support.building import resolve, trainer
from tests.support.traces import rows

OPTIONS = ["algo=trpo", "env=cartpole", "batch_size=80", "policy.hidden=[3]", "critic.hidden=[3]", "dtype=float64",
           "policy.last_gain=1.0", "objective=kl_penalty", "metric=hessian", "objective.beta=1",
           "record.spectrum_every=1"]  # fmt: skip

SMALL = ["env=cartpole", "batch_size=80", "total_steps=400", "policy.hidden=[4]", "critic.hidden=[4]", "dtype=float64",
         "evaluation.episodes=0", "record.tensorboard=false", "policy.last_gain=1.0"]  # fmt: skip


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


def told_run(folder, *overrides):
    made = trainer(resolve([*SMALL, f"run_dir={folder}", *overrides]))
    made.run()
    return made


def test_waste_is_recorded_as_often_as_asked_and_changes_nothing(tmp_path):
    told = told_run(tmp_path / "told", "algo=ppo", "record.waste_every=2")
    silent = told_run(tmp_path / "silent", "algo=ppo")
    assert torch.equal(told.state["actor"]["theta"], silent.state["actor"]["theta"])
    found = [row["step/waste"] for row in rows(tmp_path / "told")]
    assert [bool(value) for value in found] == [True, False, True, False, True]
    assert all(0 <= float(value) <= 1 for value in found if value)
    assert "step/waste" not in rows(tmp_path / "silent")[0]


def test_the_natural_gradient_wastes_nothing_and_ppo_does(tmp_path):
    exact = ["algo=npg", "policy=linear", "solver.iterations=200", "solver.tolerance=0", "damping.value=1e-12"]
    for name, chosen in (("npg", exact), ("ppo", ["algo=ppo", "policy=linear"])):
        typed = [option for option in SMALL if "policy.hidden" not in option]
        trainer(resolve([*typed, *chosen, f"run_dir={tmp_path / name}", "record.waste_every=1"])).run()
    npg, ppo = ([float(row["step/waste"]) for row in rows(tmp_path / name)] for name in ("npg", "ppo"))
    assert len(npg) == len(ppo) == 5 and max(npg) < 1e-6 < 0.01 < min(ppo)


@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_waste_is_that_of_the_two_thetas(tmp_path, l2):
    """And of the gradient of the surrogate: the l2 term has parts that F knows nothing of."""
    chosen = ["algo=ppo", "record.waste_every=1", "total_steps=80", f"l2={l2}"]
    made = trainer(resolve([*SMALL, f"run_dir={tmp_path}", *chosen]))
    learn, kept = made.agent.learn, []
    made.agent.learn = lambda state, batch, *rest: kept.append((state, batch)) or learn(state, batch, *rest)
    made.run()
    ((state, batch),) = kept
    network, theta = made.agent.actor.update.network, state["actor"]["theta"]
    samples = made.agent.actor_samples(state, batch)
    case = oracles.Case(network.module, network, made.agent.head, theta, samples)
    F, g, delta = oracles.fisher(case), oracles.gradient(case, "surrogate"), made.state["actor"]["theta"] - theta
    n = torch.linalg.pinv(F, rtol=1e-12, hermitian=True) @ g
    expected = 1 - (delta @ F @ n) ** 2 / ((n @ F @ n) * (delta @ F @ delta))
    row = rows(tmp_path)[0]
    assert float(row["step/waste"]) == pytest.approx(float(expected), abs=1e-3)
    assert float(row["step/waste_residual"]) < 1e-3


def test_an_update_that_was_refused_has_no_waste(tmp_path):
    told_run(tmp_path, "algo=trpo", "record.waste_every=1", "step.accept_ratio=0.999999", "step.backtracks=0")
    rejected = [row for row in rows(tmp_path) if float(row["step/accepted"]) == 0]
    assert rejected and all(not row.get("step/waste") for row in rejected)
