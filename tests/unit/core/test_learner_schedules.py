"""Schedules beyond epochs and minibatches: the target KL, and rates that fall as 1/k."""

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.oracles import bits, make_case, mean_kl, seeded

SMALL = ["env=cartpole", "env.num_envs=2", "batch_size=64", "policy.hidden=[4]", "critic.hidden=[4]", "dtype=float64",
         "schedule.minibatch=16", "critic.schedule.epochs=3"]  # fmt: skip


def learner(case, epochs: int, target_kl: float | None) -> Learner:
    parts = IdentityMetric(), Identity(), Constant(0.0), Fixed(0.02)
    update = Update(case.network, case.head, Surrogate(0.0), *parts)
    return Learner(update, Schedule(epochs, 10, target_kl))


def trained(case, epochs: int, target_kl: float | None):
    made = learner(case, epochs, target_kl)
    return made.run(case.theta, made.init(case.theta), case.samples, seeded(1), epochs)


def test_no_epoch_begins_above_the_target_kl():
    case = make_case("log_sigma", weights="masked", count=40)
    kls, thetas = [], []
    for epochs in range(1, 7):
        theta, _, outcome = trained(case, epochs, None)
        assert not outcome.stopped
        kls.append(float(mean_kl(case, theta)))
        thetas.append(theta)
    assert sorted(kls) == kls and kls[0] > 0
    for stop in (1, 3):  # epochs after which KL is above the target
        theta, _, outcome = trained(case, 6, (kls[stop - 1] + (kls[stop - 2] if stop > 1 else 0)) / 2)
        assert outcome.stopped and outcome.steps == 4 * stop
        assert bits(theta) == bits(thetas[stop - 1])
    theta, _, outcome = trained(case, 6, 2 * kls[-1])
    assert not outcome.stopped and bits(theta) == bits(thetas[-1])


@pytest.mark.parametrize("recompute", ["true", "false"])
def test_the_actor_stops_and_the_critic_goes_on(tmp_path, recompute):
    """And workers, where there are any, are told the policy once, as it will act."""

    def learned(epochs: int, target: str):
        overrides = ["algo=ppo", f"schedule.epochs={epochs}", f"schedule.target_kl={target}",
                     f"advantages.recompute={recompute}", "optimizer.lr=0.05", "scheduler=constant",
                     f"run_dir={tmp_path}/run"]  # fmt: skip
        run = trainer(resolve([*SMALL, *overrides]))
        told = []
        try:
            batch = run.collector.collect(run.agent.policy(run.state))
            state, _ = run.agent.learn(run.state, batch, seeded(0), told.append)
        finally:
            run.collector.close()
        assert len(told) == 1
        assert torch.equal(told[0].theta, state["actor"]["theta"])
        return state

    stopped, once, all_of_them = learned(5, "1e-9"), learned(1, "null"), learned(5, "null")
    assert torch.equal(stopped["actor"]["theta"], once["actor"]["theta"])
    assert not torch.equal(stopped["actor"]["theta"], all_of_them["actor"]["theta"])


@pytest.mark.parametrize("bad", ["0", "-1", "inf"])
def test_a_target_is_a_number_above_0(tmp_path, bad):
    with pytest.raises(UserError, match=r"schedule.target_kl must be a finite number above 0"):
        trainer(resolve([*SMALL, "algo=ppo", f"schedule.target_kl={bad}", f"run_dir={tmp_path}/run"]))


@pytest.mark.parametrize("decay", [1.0, 0.1])
def test_a_rate_falls_as_one_over_k(decay):
    step = Optimizer(
        {"_target_": "torch.optim.SGD", "lr": 0.6},
        {"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": decay},
        None,
    )
    state, rates = step.init(torch.zeros(2)), []
    for _ in range(5):
        rates.append(state["group"]["lr"])
        state = step.advance(state)
    assert rates == pytest.approx([0.6 / (1 + decay * k) for k in range(5)], rel=1e-12)


def test_the_rate_goes_on_where_a_saved_state_left_it():
    options = (
        {"_target_": "torch.optim.SGD", "lr": 0.6},
        {"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": 1.0},
        None,
    )
    state = Optimizer(*options).init(torch.zeros(2))
    for _ in range(3):
        state = Optimizer(*options).advance(state)
    assert state["group"]["lr"] == pytest.approx(0.15)


def test_a_decay_that_does_not_fall_is_refused():
    with pytest.raises(ValueError, match="decay must be a finite number above 0; got -1"):
        Optimizer(
            {"_target_": "torch.optim.SGD", "lr": 0.6},
            {"_target_": "rlopt.core.steps.optimizer.InverseLR", "decay": -1.0},
            None,
        )
