import copy
import math

import pytest
import torch
from torch import Tensor

from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import Solution
from rlopt.core.problem import Problem
from rlopt.core.steps.bound import length
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from tests.oracles import Case, bits, close, fisher, gradient, make_case, mean_kl, objective, randn

CONSTANT = {"name": "ConstantLR", "factor": 1.0, "total_iters": 1}
LINEAR = {"name": "LinearLR", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 8}
OPTIMIZERS = {
    "Adam": {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-5},
    "AdamW": {"lr": 0.03, "weight_decay": 0.1},
    "SGD": {"lr": 0.1},
    "SGD_momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.1},
    "SGD_nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "centered": True},
    "Adagrad": {"lr": 0.1, "initial_accumulator_value": 0.1},
    "Adadelta": {"lr": 0.5},
    "Adamax": {"lr": 0.03},
    "NAdam": {"lr": 0.03},
    "RAdam": {"lr": 0.03},
    "ASGD": {"lr": 0.05},
    "Rprop": {"lr": 0.01},
    "Adafactor": {"lr": 0.05},
}
every_optimizer = pytest.mark.parametrize("kind", OPTIMIZERS)


def configured(kind: str) -> dict:
    return {"name": kind.split("_")[0], **OPTIMIZERS[kind]}


def problem(case: Case) -> Problem:
    tape, surrogate = case.tape, Surrogate(entropy=0.0)
    value = case.samples.mean(surrogate.values(case.head, tape.outputs, case.samples))
    return Problem(case.network, case.head, surrogate, case.samples, tape, value)


def along(x: Tensor, quadratic: Tensor | float = 1.0, damping: float = 0.0) -> Solution:
    return Solution(x, 0.0, 0.0, torch.as_tensor(quadratic, dtype=x.dtype), damping)


def take(step, case: Case, x: Tensor, state=None, theta: Tensor | None = None, quadratic: Tensor | float = 1.0):
    theta = case.theta if theta is None else theta
    state = step.init(theta) if state is None else state
    return step.step(state, theta, along(x, quadratic), torch.tensor(1.0, dtype=x.dtype), problem(case))


def shrinking_sigma(case: Case, by: float = 10.0) -> Tensor:
    """A direction that takes every sigma below 0."""
    x = torch.zeros_like(case.theta)
    x[-2:] = -by
    return x


def f64(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize("damping", [0.0, 0.3, f64(0.3)])
@pytest.mark.parametrize("q", [2.0, 0.5, 1e-3, -0.1])
def test_length_follows_its_formula(q, damping):
    x = randn(5)
    bound = max(q, (q + float(damping) * float(x @ x)) / 4)
    expected = min(3.0, math.sqrt(2 * 0.01 / bound)) if bound > 0 else 3.0
    assert float(length(f64(q), x, damping, 0.01, 3.0)) == pytest.approx(expected, rel=1e-12)


def test_length_is_held_by_the_damped_term_only_where_the_metric_is_nearly_flat():
    x = torch.ones(4, dtype=torch.float64)
    flat, steep = length(f64(1e-9), x, 0.5, 0.01, 1e9), length(f64(10.0), x, 0.5, 0.01, 1e9)
    assert float(flat) == pytest.approx(math.sqrt(0.02 / (0.5)), rel=1e-6)
    assert float(steep) == pytest.approx(math.sqrt(0.02 / 10))


@pytest.mark.parametrize(("q", "damping"), [(0.0, 0.0), (-1.0, 0.1), (-3.0, 0.0)])
def test_length_is_the_largest_where_the_model_says_nothing(q, damping):
    assert length(f64(q), torch.ones(4, dtype=torch.float64), damping, 0.01, 7.0) == 7.0


def test_fixed_moves_by_its_rate():
    case, x = make_case("sigma"), 0.1 * randn(len(make_case("sigma").theta))
    theta, state, scalars = take(Fixed(rate=0.5), case, x)
    assert torch.equal(theta, case.theta + 0.5 * x) and state == {}
    assert scalars["step/accepted"] == 1 and scalars["step/size"] == 0.5
    assert scalars["step/improvement_predicted"] == 0.5


@pytest.mark.parametrize("radius", [1e-4, 0.01, 2.0])
def test_trust_region_goes_to_the_radius_of_its_own_metric(radius):
    case = make_case("sigma", weights="masked")
    x, F = randn(len(case.theta)) * 0.01, fisher(case)
    theta, _, scalars = take(TrustRegion(radius, largest=1e6), case, x, quadratic=x @ F @ x)
    moved = theta - case.theta
    assert float(moved @ F @ moved / 2) == pytest.approx(radius, rel=1e-9)
    assert float(scalars["step/kl_predicted"]) == pytest.approx(radius, rel=1e-9)
    assert close(moved, scalars["step/size"] * x, 1e-12)
    assert not scalars["step/at_largest"] and scalars["step/accepted"] == 1


def test_trust_region_never_exceeds_its_largest_length_and_says_so():
    case, x = make_case("categorical"), randn(len(make_case("categorical").theta))
    for q in (1e-12, 0.0, -1.0):
        theta, _, scalars = take(TrustRegion(1.0, largest=0.25), case, x, quadratic=q)
        assert torch.equal(theta, case.theta + 0.25 * x)
        assert scalars["step/at_largest"]


@pytest.mark.parametrize("step", [Fixed(1.0), TrustRegion(50.0, 10.0), KLLineSearch(50.0, 0.9, 2, 0.0, 10.0)])
@pytest.mark.parametrize("head", ["sigma", "sigma_per_state"])
def test_a_step_to_sigma_below_zero_is_rejected(step, head):
    case = make_case(head)
    x = shrinking_sigma(case)  # the last two are sigma itself, or the biases of the outputs that are sigma
    kept, state = case.theta.clone(), step.init(case.theta)
    theta, new_state, scalars = take(step, case, x, state)
    assert theta is case.theta and torch.equal(theta, kept)
    assert new_state is state and scalars["step/accepted"] == 0


@pytest.mark.parametrize("step", [Fixed(1e308), TrustRegion(1.0, 1e308)])
def test_a_step_to_infinity_is_rejected(step):
    case = make_case("categorical")
    theta, _, scalars = take(step, case, torch.full_like(case.theta, 10.0), quadratic=0.0)
    assert theta is case.theta and scalars["step/accepted"] == 0


def searched(case: Case, x: Tensor, step: KLLineSearch):
    slope = gradient(case, "surrogate") @ x
    return step.step({}, case.theta, along(x, 123.0), slope, problem(case)), slope


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("head", ["categorical", "log_sigma", "sigma"])
@pytest.mark.parametrize(("radius", "accept_ratio"), [(0.01, 0.0), (1.0, 0.0), (1.0, 0.9)])
def test_kl_line_search_takes_the_first_length_that_keeps_its_promises(head, seed, radius, accept_ratio):
    case = make_case(head, weights="masked", seed=seed)
    x = gradient(case, "surrogate")
    step = KLLineSearch(radius, shrink=0.9, backtracks=40, accept_ratio=accept_ratio, largest=1e6)
    (theta, state, scalars), slope = searched(case, x, step)
    first = math.sqrt(2 * radius / float(x @ fisher(case) @ x))
    start = objective(case, "surrogate", case.theta)
    for tried in range(step.backtracks + 1):
        alpha = first * 0.9**tried
        candidate = case.theta + alpha * x
        if head == "sigma" and candidate[-2:].min() <= 0:
            continue
        improved = objective(case, "surrogate", candidate) - start > accept_ratio * alpha * slope
        if mean_kl(case, candidate) <= radius and improved:
            break
    assert scalars["step/accepted"] == 1 and scalars["step/backtracks"] == tried
    assert close(theta, candidate, 1e-9)
    assert float(scalars["step/size"]) == pytest.approx(alpha, rel=1e-9)
    assert float(scalars["step/kl_predicted"]) == pytest.approx(radius, rel=1e-9)
    assert float(scalars["step/improvement_predicted"]) == pytest.approx(first * float(slope), rel=1e-9)


def test_kl_line_search_backtracks_in_some_of_those_cases():
    step = KLLineSearch(1.0, shrink=0.9, backtracks=40, accept_ratio=0.9, largest=1e6)
    cases = [make_case("log_sigma", weights="masked", seed=seed) for seed in range(4)]
    backtracks = [searched(case, gradient(case, "surrogate"), step)[0][2]["step/backtracks"] for case in cases]
    assert max(backtracks) > 1


def test_kl_line_search_tries_one_length_more_than_its_backtracks():
    case = make_case("log_sigma", weights="masked")
    x, needed = gradient(case, "surrogate"), 0
    for backtracks in range(1, 40):
        step = KLLineSearch(1.0, shrink=0.9, backtracks=backtracks, accept_ratio=0.9, largest=1e6)
        (_, _, scalars), _ = searched(case, x, step)
        if scalars["step/accepted"]:
            needed = scalars["step/backtracks"]
            break
    assert needed == backtracks > 1


def test_kl_line_search_never_exceeds_its_largest_length():
    case = make_case("categorical")
    x = gradient(case, "surrogate")
    (theta, _, _), _ = searched(case, x, KLLineSearch(1.0, 0.5, 5, 0.0, largest=1e-3))
    assert torch.equal(theta, case.theta + f64(1e-3) * x)


@pytest.mark.parametrize(("radius", "accept_ratio", "sign"), [(0.01, 0.0, -1.0), (1e-40, 0.0, 1.0), (1e4, 0.99, 1.0)])
def test_kl_line_search_that_finds_nothing_returns_theta_itself(radius, accept_ratio, sign):
    case = make_case("log_sigma", weights="masked")
    kept, state = case.theta.clone(), {}
    step = KLLineSearch(radius, shrink=0.9, backtracks=3, accept_ratio=accept_ratio, largest=1e6)
    x = sign * gradient(case, "surrogate")
    theta, new_state, scalars = step.step(state, case.theta, along(x), abs(x @ x), problem(case))
    assert theta is case.theta and torch.equal(theta, kept) and new_state is state
    assert scalars["step/accepted"] == 0 and scalars["step/size"] == 0 and scalars["step/backtracks"] == 3


def run(step: Optimizer, case: Case, theta: Tensor, state, start: int, stop: int):
    """Steps start..stop along seeded directions, the schedule advancing after every second."""
    for i in range(start, stop):
        x = 0.05 * randn(len(theta), seed=i)
        theta, state, _ = take(step, case, x, state, theta)
        if i % 2:
            state = step.advance(state)
    return theta, state


@pytest.mark.parametrize("head", ["log_sigma", "sigma"])
@every_optimizer
def test_an_optimizer_step_is_that_of_torch(kind, head):
    case = make_case(head)
    step = Optimizer(configured(kind), LINEAR, max_norm=None)
    theta = case.theta.clone()
    theta, _ = run(step, case, theta, step.init(theta), 0, 20)

    parameter = torch.nn.Parameter(case.theta.clone())
    reference = getattr(torch.optim, configured(kind)["name"])([parameter], **OPTIMIZERS[kind])
    schedule = torch.optim.lr_scheduler.LinearLR(reference, start_factor=1.0, end_factor=0.1, total_iters=8)
    for i in range(20):
        parameter.grad = -0.05 * randn(len(theta), seed=i)
        reference.step()
        if i % 2:
            schedule.step()
    assert close(theta, parameter.detach(), 1e-12)
    assert not torch.equal(theta, case.theta)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "Adam"},
        {"name": "Adam", "amsgrad": True, "weight_decay": 0.1},
        {"name": "AdamW", "betas": [0.8, 0.9]},
        {"name": "Adam", "maximize": True, "eps": 1e-3},
        {"name": "Adam", "fused": False},
    ],
    ids=str,
)
def test_adam_gives_the_bits_of_torch_whatever_its_options(options):
    options = {"lr": 0.05, "fused": True, **options}
    step = Optimizer(options, LINEAR, max_norm=None)
    case = make_case("log_sigma")
    theta = case.theta.clone()
    theta, _ = run(step, case, theta, step.init(theta), 0, 20)

    parameter = torch.nn.Parameter(case.theta.clone())
    reference = getattr(torch.optim, options["name"])([parameter], **{k: v for k, v in options.items() if k != "name"})
    schedule = torch.optim.lr_scheduler.LinearLR(reference, start_factor=1.0, end_factor=0.1, total_iters=8)
    for i in range(20):
        parameter.grad = -0.05 * randn(len(theta), seed=i)
        reference.step()
        if i % 2:
            schedule.step()
    assert torch.equal(theta, parameter.detach())
    assert not torch.equal(theta, case.theta)


@pytest.mark.parametrize(
    "schedule",
    [
        LINEAR,
        {"name": "ConstantLR", "factor": 0.5, "total_iters": 3},
        {"name": "ExponentialLR", "gamma": 0.8},
        {"name": "StepLR", "step_size": 2, "gamma": 0.5},
        {"name": "MultiStepLR", "milestones": [2, 5], "gamma": 0.5},
        {"name": "PolynomialLR", "total_iters": 7, "power": 2.0},
        {"name": "CosineAnnealingLR", "T_max": 9},
        {"name": "CosineAnnealingWarmRestarts", "T_0": 4},
        {"name": "OneCycleLR", "max_lr": 0.2, "total_steps": 12},
        {"name": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3},
    ],
    ids=lambda schedule: schedule["name"],
)
def test_a_schedule_advances_once_per_update_as_in_torch(schedule):
    case = make_case("categorical")
    optimizer = {"name": "SGD", "lr": 0.1, "momentum": 0.9}
    options = {k: v for k, v in schedule.items() if k != "name"}
    step = Optimizer(optimizer, schedule, max_norm=None)
    theta = case.theta.clone()
    state = step.init(theta)
    reference = torch.optim.SGD([torch.nn.Parameter(case.theta.clone())], lr=0.1, momentum=0.9)
    scheduler = getattr(torch.optim.lr_scheduler, schedule["name"])(reference, **options)
    for i in range(10):
        for _ in range(2):
            theta, state, scalars = take(step, case, 0.01 * randn(len(theta), seed=i), state, theta)
            assert float(scalars["step/size"]) == pytest.approx(reference.param_groups[0]["lr"], rel=1e-12)
        reference.step()
        scheduler.step()
        state = step.advance(copy.deepcopy(state))
        assert state["group"]["momentum"] == pytest.approx(reference.param_groups[0]["momentum"], rel=1e-12)


@every_optimizer
def test_two_networks_share_one_optimizer_object_without_disturbing_each_other(kind):
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
def test_initialising_another_network_leaves_the_first_bound_to_its_own_theta(kind):
    case, other = make_case("log_sigma"), make_case("categorical")
    shared, alone = (Optimizer(configured(kind), LINEAR, max_norm=None) for _ in range(2))
    theta = case.theta.clone()
    theta, state = run(shared, case, theta, shared.init(theta), 0, 1)
    shared.init(other.theta)
    theta, state = run(shared, case, theta, state, 1, 2)
    expected = case.theta.clone()
    assert bits((theta, state)) == bits(run(alone, case, expected, alone.init(expected), 0, 2))


@every_optimizer
def test_the_state_handed_in_counts_and_not_what_the_object_did_before_with_this_theta(kind):
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
def test_a_copied_state_continues_bit_for_bit_in_a_new_optimizer_object(kind, stop, head):
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
def test_an_optimizer_step_to_sigma_below_zero_leaves_theta_and_moments_to_the_bit(kind):
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
    step = Optimizer({"name": "Eager", "lr": 0.1}, CONSTANT, max_norm=None)
    theta, state, _ = take(step, case, x, None, case.theta.clone())
    assert close(theta, case.theta + 0.1 * x / (1 + x**2).sqrt(), 1e-12)
    assert close(state["moments"]["sum"], 1 + x**2, 1e-12)


def test_max_norm_is_torchs_clipping_and_leaves_shorter_directions_alone():
    case = make_case("categorical")
    step = Optimizer({"name": "SGD", "lr": 1.0}, CONSTANT, max_norm=0.5)
    for scale in (0.001, 10.0):
        x = scale * randn(len(case.theta))
        theta, _, _ = take(step, case, x.clone(), None, case.theta.clone())
        parameter = torch.nn.Parameter(case.theta.clone())
        parameter.grad = -x
        torch.nn.utils.clip_grad_norm_([parameter], 0.5)
        assert close(theta, case.theta - parameter.grad, 1e-12)
    assert float((theta - case.theta).norm()) == pytest.approx(0.5, rel=1e-5)


def test_an_optimizer_leaves_the_direction_as_it_was():
    case, x = make_case("categorical"), randn(len(make_case("categorical").theta))
    kept = x.clone()
    take(Optimizer({"name": "Adam"}, CONSTANT, max_norm=0.1), case, x, None, case.theta.clone())
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("optimizer", "schedule", "says"),
    [
        ({"name": "Adamm"}, CONSTANT, r"optimizer\.name must be one of .*\bAdam, AdamW.*; got 'Adamm'"),
        ({"lr": 0.1}, CONSTANT, r"optimizer\.name must be one of .*SGD; got None"),
        ({"name": "LBFGS"}, CONSTANT, r"optimizer\.name must be one of"),
        ({"name": "Optimizer"}, CONSTANT, r"optimizer\.name must be one of"),
        ({"name": "Adam", "beta": 0.9}, CONSTANT, r"optimizer must be Adam with .*\blr, betas, eps\b.*; got 'beta'"),
        ({"name": "Adam", "lr": -1.0}, CONSTANT, r"Invalid learning rate: -1\.0"),
        ({"name": "Adam"}, {"name": "Linear"}, r"scheduler\.name must be one of .*LinearLR.*; got 'Linear'"),
        ({"name": "Adam"}, {"name": "LambdaLR"}, r"scheduler\.name must be one of"),
        (
            {"name": "Adam"},
            {"name": "StepLR", "size": 3},
            r"scheduler must be StepLR with .*step_size \(needed\), gamma.*; got 'size'",
        ),
        ({"name": "Adam"}, {"name": "StepLR"}, r"scheduler must be StepLR with .*step_size \(needed\), gamma"),
    ],
)
def test_wrong_names_and_arguments_are_refused_with_the_choices(optimizer, schedule, says):
    with pytest.raises(ValueError, match=says):
        Optimizer(optimizer, schedule, max_norm=None)


def test_every_choice_that_is_offered_can_be_made_from_numbers():
    def offered(*config) -> list[str]:
        with pytest.raises(ValueError, match="must be one of") as refusal:
            Optimizer(*config, max_norm=None)
        return str(refusal.value).split("one of ")[1].split(";")[0].split(", ")

    assert set(offered({"name": "?"}, CONSTANT)) == {kind.split("_")[0] for kind in OPTIMIZERS}
    schedules = offered({"name": "Adam"}, {"name": "?"})
    assert "LinearLR" in schedules
    assert not {"ChainedScheduler", "SequentialLR", "LRScheduler", "_LRScheduler"} & set(schedules)


def test_an_optimizer_that_is_told_not_to_fuse_does_not():
    case = make_case("categorical")
    fused, foreach = (Optimizer({"name": "Adam", **how}, CONSTANT, None) for how in ({}, {"foreach": True}))
    a = take(fused, case, randn(len(case.theta)), None, case.theta.clone())[0]
    b = take(foreach, case, randn(len(case.theta)), None, case.theta.clone())[0]
    assert close(a, b, 1e-12)


def test_only_optimizers_that_rescale_coordinates_are_adaptive():
    def adaptive(kind: str) -> bool:
        return Optimizer(configured(kind), CONSTANT, max_norm=None).adaptive

    assert {kind.split("_")[0] for kind in OPTIMIZERS if not adaptive(kind)} == {"SGD", "ASGD"}
    assert not Fixed(1.0).adaptive and not TrustRegion(1.0, 1.0).adaptive


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fixed(0.0), "rate must be a finite number above 0; got 0.0"),
        (lambda: TrustRegion(-1.0, 1.0), "radius must be"),
        (lambda: TrustRegion(1.0, math.inf), "largest must be"),
        (lambda: KLLineSearch(math.nan, 0.5, 5, 0.0, 1.0), "radius must be"),
        (lambda: KLLineSearch(0.1, 1.0, 5, 0.0, 1.0), "shrink must be above 0 and below 1; got 1.0"),
        (lambda: KLLineSearch(0.1, 0.5, 0, 0.0, 1.0), "backtracks must be"),
        (lambda: KLLineSearch(0.1, 0.5, 5, 1.0, 1.0), "accept_ratio must be"),
        (lambda: KLLineSearch(0.1, 0.5, 5, 0.0, 0.0), "largest must be"),
        (lambda: Optimizer({"name": "Adam"}, CONSTANT, max_norm=0.0), "max_norm must be"),
    ],
)
def test_steps_refuse_numbers_outside_their_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()
