"""Steps of torch's optimizers: the bits of torch, and a state that alone decides."""

import copy
import importlib

import pytest
import torch
from torch import Tensor

from rlopt.core.steps.optimizer import Optimizer
from tests.support.oracles import Case, bits, close, make_case, randn
from tests.support.stepping import CONSTANT, OPTIMIZERS, configured, shrinking_sigma, take

LINEAR = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 8}

every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS)


def run(step: Optimizer, case: Case, theta: Tensor, state, start: int, stop: int):
    """Steps start..stop along seeded directions, the schedule advancing after every second."""
    for i in range(start, stop):
        x = 0.05 * randn(len(theta), seed=i)
        theta, state, _ = take(step, case, x, state, theta)
        if i % 2:
            state = step.advance(state)
    return theta, state


def torchs(target: str) -> type:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def by_torch(target: str, options: dict, theta: Tensor) -> Tensor:
    """Where torch's own optimizer comes to by steps 0..20 of `run`."""
    parameter = torch.nn.Parameter(theta.clone())
    reference = torchs(target)([parameter], **options)
    schedule = torch.optim.lr_scheduler.LinearLR(reference, start_factor=1.0, end_factor=0.1, total_iters=8)
    for i in range(20):
        parameter.grad = -0.05 * randn(len(theta), seed=i)
        reference.step()
        if i % 2:
            schedule.step()
    return parameter.detach()


@pytest.mark.parametrize("head", ["log_sigma", "sigma"])
@every_optimizer
def test_an_optimizer_step_is_that_of_torch(kind, head):
    case = make_case(head)
    step = Optimizer(configured(kind), LINEAR, max_norm=None)
    theta, _ = run(step, case, case.theta.clone(), step.init(case.theta), 0, 20)
    assert close(theta, by_torch(configured(kind)["_target_"], OPTIMIZERS[kind], case.theta), 1e-12)
    assert not torch.equal(theta, case.theta)


@pytest.mark.parametrize(
    "options",
    [
        {"_target_": "torch.optim.Adam"},
        {"_target_": "torch.optim.Adam", "amsgrad": True, "weight_decay": 0.1},
        {"_target_": "torch.optim.AdamW", "betas": [0.8, 0.9]},
        {"_target_": "torch.optim.Adam", "weight_decay": 0.1, "decoupled_weight_decay": True},
        {"_target_": "torch.optim.Adam", "maximize": True, "eps": 1e-3},
        {"_target_": "torch.optim.Adam", "fused": False},
    ],
    ids=str,
)
def test_adam_gives_the_bits_of_torch_whatever_its_options(options):
    options = {"lr": 0.05, "fused": True, **options}
    step = Optimizer(options, LINEAR, max_norm=None)
    case = make_case("log_sigma")
    theta, _ = run(step, case, case.theta.clone(), step.init(case.theta), 0, 20)
    target = options.pop("_target_")
    assert torch.equal(theta, by_torch(target, options, case.theta))
    assert not torch.equal(theta, case.theta)


@pytest.mark.parametrize(
    "schedule",
    [
        LINEAR,
        {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 0.5, "total_iters": 3},
        {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.8},
        {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 2, "gamma": 0.5},
        {"_target_": "torch.optim.lr_scheduler.MultiStepLR", "milestones": [2, 5], "gamma": 0.5},
        {"_target_": "torch.optim.lr_scheduler.PolynomialLR", "total_iters": 7, "power": 2.0},
        {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 9},
        {"_target_": "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts", "T_0": 4},
        {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.2, "total_steps": 12},
        {"_target_": "torch.optim.lr_scheduler.CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    ],
    ids=lambda schedule: schedule["_target_"].rpartition(".")[2],
)
def test_a_schedule_advances_once_per_update_as_in_torch(schedule):
    case = make_case("categorical")
    optimizer = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}
    options = {k: v for k, v in schedule.items() if k != "_target_"}
    step = Optimizer(optimizer, schedule, max_norm=None)
    theta = case.theta.clone()
    state = step.init(theta)
    reference = torch.optim.SGD([torch.nn.Parameter(case.theta.clone())], lr=0.1, momentum=0.9)
    scheduler = torchs(schedule["_target_"])(reference, **options)
    for i in range(10):
        for _ in range(2):
            theta, state, scalars = take(step, case, 0.01 * randn(len(theta), seed=i), state, theta)
            assert float(scalars["step/size"]) == pytest.approx(reference.param_groups[0]["lr"], rel=1e-12)
        reference.step()
        scheduler.step()
        state = step.advance(copy.deepcopy(state))
        assert state["group"]["momentum"] == pytest.approx(reference.param_groups[0]["momentum"], rel=1e-12)


@every_optimizer
def test_two_networks_share_one_optimizer_undisturbed(kind):
    first, second = make_case("log_sigma", seed=1), make_case("categorical", seed=2)
    alone = []
    for case in (first, second):
        step = Optimizer(configured(kind), LINEAR, max_norm=None)
        theta = case.theta.clone()
        alone.append(run(step, case, theta, step.init(theta), 0, 12))

    shared = Optimizer(configured(kind), LINEAR, max_norm=None)
    a = first.theta.clone()
    a, a_state = run(shared, first, a, shared.init(a), 0, 3)
    b = second.theta.clone()
    b_state = shared.init(b)
    for i in range(12):
        if i >= 3:
            a, a_state = run(shared, first, a, a_state, i, i + 1)
        b, b_state = run(shared, second, b, b_state, i, i + 1)
    assert bits((a, a_state)) == bits(alone[0])
    assert bits((b, b_state)) == bits(alone[1])


@every_optimizer
def test_initialising_another_network_leaves_the_first_bound(kind):
    case, other = make_case("log_sigma"), make_case("categorical")
    shared, alone = (Optimizer(configured(kind), LINEAR, max_norm=None) for _ in range(2))
    theta = case.theta.clone()
    theta, state = run(shared, case, theta, shared.init(theta), 0, 1)
    shared.init(other.theta)
    theta, state = run(shared, case, theta, state, 1, 2)
    expected = case.theta.clone()
    assert bits((theta, state)) == bits(run(alone, case, expected, alone.init(expected), 0, 2))


@every_optimizer
def test_the_given_state_counts_and_not_the_objects_past(kind):
    case = make_case("log_sigma")
    step = Optimizer(configured(kind), LINEAR, max_norm=None)
    theta = case.theta.clone()
    state = step.init(theta)
    fresh, other = copy.deepcopy(state), Optimizer(configured(kind), LINEAR, max_norm=None)
    theta, _ = run(step, case, theta, state, 0, 1)
    expected, expected_state = theta.clone(), copy.deepcopy(fresh)
    x = 0.05 * randn(len(theta), seed=50)
    theta, fresh, _ = take(step, case, x, fresh, theta)
    expected, expected_state, _ = take(other, case, x, expected_state, expected)
    assert bits((theta, fresh)) == bits((expected, expected_state))


@pytest.mark.parametrize("head", ["log_sigma", "sigma"])
@pytest.mark.parametrize("stop", [0, 7, 8])
@every_optimizer
def test_a_copied_state_continues_to_the_bit_in_a_new_optimizer(kind, stop, head):
    case = make_case(head)
    step = Optimizer(configured(kind), LINEAR, max_norm=1.0)
    theta = case.theta.clone()
    theta, state = run(step, case, theta, step.init(theta), 0, stop)
    copied_theta, copied_state = theta.clone(), copy.deepcopy(state)
    continued = run(step, case, theta, state, stop, 16)
    anew = run(Optimizer(configured(kind), LINEAR, max_norm=1.0), case, copied_theta, copied_state, stop, 16)
    assert bits(continued) == bits(anew)


@every_optimizer
def test_an_optimizers_state_is_plain(kind):
    def plain(x) -> bool:
        if isinstance(x, dict):
            return all(isinstance(k, str) and plain(v) for k, v in x.items())
        if isinstance(x, list | tuple):
            return all(v is None or isinstance(v, int | float) for v in x)
        return x is None or type(x) in (Tensor, int, float, bool)

    case = make_case("log_sigma")
    step = Optimizer(configured(kind), LINEAR, max_norm=None)
    theta = case.theta.clone()
    _, state = run(step, case, theta, step.init(theta), 0, 3)
    assert plain(state)


@every_optimizer
def test_a_step_to_sigma_below_0_leaves_theta_and_moments(kind):
    case = make_case("sigma")
    step, without = (Optimizer(configured(kind), LINEAR, max_norm=None) for _ in range(2))
    theta = case.theta.clone()
    theta, state = run(step, case, theta, step.init(theta), 0, 4)
    theta[-2:] = 1e-6
    before = bits((theta, state))
    same, new_state, scalars = take(step, case, shrinking_sigma(case), state, theta)
    assert scalars["step/accepted"] == 0
    assert same is theta and new_state is state
    assert bits((theta, state)) == before

    theta[-2:] = 1.0
    again = copy.deepcopy(state), theta.clone()
    after = take(step, case, 1e-3 * randn(len(theta)), state, theta)
    unaware = take(without, case, 1e-3 * randn(len(theta)), *again)
    assert bits(after) == bits(unaware)


def test_moments_that_an_optimizer_makes_at_birth_are_kept(monkeypatch):
    class Eager(torch.optim.Optimizer):  # as Adagrad is in older releases of torch
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})
            for p in self.param_groups[0]["params"]:
                self.state[p]["sum"] = torch.ones_like(p)

        def step(self, closure=None):
            for p in self.param_groups[0]["params"]:
                self.state[p]["sum"] += p.grad**2
                p -= self.param_groups[0]["lr"] * p.grad / self.state[p]["sum"].sqrt()

    monkeypatch.setattr(torch.optim, "Eager", Eager, raising=False)
    case, x = make_case("log_sigma"), randn(len(make_case("log_sigma").theta))
    step = Optimizer({"_target_": "torch.optim.Eager", "lr": 0.1}, CONSTANT, max_norm=None)
    theta, state, _ = take(step, case, x, None, case.theta.clone())
    assert close(theta, case.theta + 0.1 * x / (1 + x**2).sqrt(), 1e-12)
    assert close(state["moments"]["sum"], 1 + x**2, 1e-12)
