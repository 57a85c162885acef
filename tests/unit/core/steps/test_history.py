"""SGD with history against its formula, alone and as a step."""

import pytest
import torch

from rlopt.core.steps.history import SGDWithHistory
from rlopt.core.steps.optimizer import Optimizer
from tests.support.building import resolve, trainer
from tests.support.oracles import close, make_case, randn
from tests.support.stepping import CONSTANT, take

HISTORY = {"_target_": "rlopt.core.steps.history.SGDWithHistory", "lr": 0.1, "tau": 0.03}
LINEAR = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 6}


def test_each_step_follows_its_formula():
    """Of two parameters, one of which has no gradient at times."""
    w, other = randn(4, seed=1), randn(2, seed=2)
    expected, before = w.clone(), torch.zeros(4).double()
    optimizer, start = SGDWithHistory([w, other], lr=0.1, tau=0.03), other.clone()
    for t in range(5):
        G = randn(4, seed=10 + t)
        expected, before = expected - (0.1 * G + 0.03 * before), G
        w.grad = G.clone()
        optimizer.step()
        w.grad.zero_()  # the optimizer keeps its own copy
        assert close(w, expected, 1e-15)
    assert torch.equal(other, start)


@pytest.mark.parametrize("scheduler", [CONSTANT, LINEAR], ids=["constant", "linear"])
def test_a_step_goes_up_and_both_rates_follow_the_scheduler(scheduler):
    case = make_case("log_sigma")
    step = Optimizer(HISTORY, scheduler, max_norm=None)
    assert not step.adaptive
    theta, state, before = case.theta.clone(), step.init(case.theta), torch.zeros_like(case.theta)
    for k in range(4):
        x, factor = 0.01 * randn(len(theta), seed=k), 1 if scheduler is CONSTANT else 1 - k / 6
        expected = theta + factor * (0.1 * x + 0.03 * before)
        theta, state, _ = take(step, case, x, state, theta)
        assert close(theta, expected, 1e-14)
        state, before = step.advance(state), x


def test_a_step_that_is_taken_back_leaves_the_gradient_before():
    case = make_case("sigma")
    step, x = Optimizer(HISTORY, CONSTANT, max_norm=None), 0.01 * randn(len(make_case("sigma").theta))
    theta, state, _ = take(step, case, x, theta=case.theta.clone())
    away = torch.zeros_like(x)
    away[-2:] = -1e3
    _, after, scalars = take(step, case, away, state, theta.clone())
    assert scalars["step/accepted"] == 0
    assert torch.equal(after["moments"]["previous"], -x)


@pytest.mark.parametrize("option", ["lr", "tau"])
def test_a_rate_below_0_is_refused_by_its_name(option):
    with pytest.raises(ValueError, match=rf"{option} must be a finite number, 0 or above; got -1"):
        SGDWithHistory([torch.zeros(1)], **{option: -1.0})
    with pytest.raises(ValueError, match=rf"{option} must be a finite number, 0 or above"):
        Optimizer({**HISTORY, option: -1.0}, CONSTANT, max_norm=None)


@pytest.mark.parametrize("typed", ["algo=vpg", "algo=npg step=optimizer"])
def test_it_is_chosen_as_any_optimizer(typed):
    small = ["optimizer=history", "optimizer.tau=0.5", "policy.hidden=[4]", "batch_size=40", "total_steps=40"]
    run = trainer(resolve([*typed.split(), *small]))
    run.collector.close()
    assert isinstance(run.agent.actor.update.step._optimizer, SGDWithHistory)
