"""Steps of a fixed rate, to a radius, and by a line search on KL."""

import math

import pytest
import torch
from torch import Tensor

from rlopt.core.problem import step_length
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from tests.support.oracles import Case, close, fisher, gradient, make_case, mean_kl, objective, randn
from tests.support.stepping import CONSTANT, along, problem, shrinking_sigma, take


def f64(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64)


@pytest.mark.parametrize("damping", [0.0, 0.3, f64(0.3)])
@pytest.mark.parametrize("q", [2.0, 0.5, 1e-3, -0.1])
def test_length_follows_its_formula(q, damping):
    x = randn(5)
    bound = max(q, (q + float(damping) * float(x @ x)) / 4)
    expected = min(3.0, math.sqrt(2 * 0.01 / bound)) if bound > 0 else 3.0
    assert float(step_length(f64(q), x, damping, 0.01, 3.0)) == pytest.approx(expected, rel=1e-12)


def test_the_damped_term_limits_the_length_only_if_nearly_flat():
    x = torch.ones(4, dtype=torch.float64)
    flat, steep = step_length(f64(1e-9), x, 0.5, 0.01, 1e9), step_length(f64(10.0), x, 0.5, 0.01, 1e9)
    assert float(flat) == pytest.approx(math.sqrt(0.02 / (0.5)), rel=1e-6)
    assert float(steep) == pytest.approx(math.sqrt(0.02 / 10))


@pytest.mark.parametrize(("q", "damping"), [(0.0, 0.0), (-1.0, 0.1), (-3.0, 0.0)])
def test_length_is_the_largest_where_the_model_says_nothing(q, damping):
    assert step_length(f64(q), torch.ones(4, dtype=torch.float64), damping, 0.01, 7.0) == 7.0


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


def test_trust_region_stays_below_its_largest_length_and_says_so():
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


@pytest.mark.parametrize("step", [Fixed(3e38), TrustRegion(1.0, 3e38)])
def test_a_step_to_infinity_is_rejected(step):
    case = make_case("categorical")
    theta, _, scalars = take(step, case, torch.full_like(case.theta, 1e300), quadratic=0.0)
    assert theta is case.theta and scalars["step/accepted"] == 0


def searched(case: Case, x: Tensor, step: KLLineSearch):
    slope = gradient(case, "surrogate") @ x
    return step.step({}, case.theta, along(x, 123.0), slope, problem(case)), slope


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("head", ["categorical", "log_sigma", "sigma"])
@pytest.mark.parametrize(("radius", "accept_ratio"), [(0.01, 0.0), (1.0, 0.0), (1.0, 0.9)])
def test_kl_line_search_takes_the_first_length_that_qualifies(head, seed, radius, accept_ratio):
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


def test_kl_line_search_tries_its_backtracks_and_one_more():
    case = make_case("log_sigma", weights="masked")
    x, needed = gradient(case, "surrogate"), 0
    for backtracks in range(40):
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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fixed(0.0), "rate must be a finite number above 0; got 0.0"),
        (lambda: TrustRegion(-1.0, 1.0), "radius must be"),
        (lambda: TrustRegion(1.0, math.inf), "largest must be"),
        (lambda: KLLineSearch(math.nan, 0.5, 5, 0.0, 1.0), "radius must be"),
        (lambda: KLLineSearch(0.1, 1.0, 5, 0.0, 1.0), "shrink must be above 0 and below 1; got 1.0"),
        (lambda: KLLineSearch(0.1, 0.5, -1, 0.0, 1.0), "backtracks must be"),
        (lambda: KLLineSearch(0.1, 0.5, 5, 1.0, 1.0), "accept_ratio must be"),
        (lambda: KLLineSearch(0.1, 0.5, 5, 0.0, 0.0), "largest must be"),
        (lambda: Optimizer({"_target_": "torch.optim.Adam"}, CONSTANT, max_norm=0.0), "max_norm must be"),
    ],
)
def test_steps_refuse_numbers_outside_their_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()
