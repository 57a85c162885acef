"""The midpoint step: invariance of a higher order, on a closed form and on a policy written in two ways."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.dense import Dense
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.midpoint import Midpoint
from rlopt.core.update import Update
from rlopt.tasks.lqr import LQR
from tests.support.oracles import Case, bits, close, fisher, gradient, make_case, randn
from tests.support.stepping import along, problem, shrinking_sigma, take

FAR = 1e9  # a radius that never binds


def in_sigma(case: Case) -> Case:
    """The same policy and samples, with the scale as sigma in place of log sigma."""
    theta = case.theta.clone()
    theta[-2:] = theta[-2:].exp()
    return replace(case, head=replace(case.head, scale="sigma"), theta=theta)


def flowed(case: Case, step: object, steps: int) -> Tensor:
    """Theta after natural gradient steps, with sigma in place of log sigma."""
    update = Update(case.network, case.head, Surrogate(0.0), Fisher(None, 0), Dense("refuse"), Constant(1e-10), step)
    theta, state = case.theta, update.init(case.theta)
    for _ in range(steps):
        theta, state, report = update(theta, state, case.samples)
        assert report.failure is None and report.scalars["step/accepted"] == 1
    logarithm = isinstance(case.head, DiagonalGaussian) and case.head.scale == "log_sigma"
    return torch.cat([theta[:-2], theta[-2:].exp()]) if logarithm else theta


@pytest.mark.parametrize(
    "step, order", [(lambda h: Fixed(h), 1), (lambda h: Midpoint(h, FAR), 2)], ids=["euler", "midpoint"]
)
def test_two_parametrisations_agree_to_the_rules_order(step, order):
    """After the same time they are O(alpha) apart by Euler's rule and O(alpha^2) by the midpoint's."""
    case = make_case("log_sigma", weights="masked", count=200, hidden=())
    other, apart = in_sigma(case), []
    for steps in (4, 8, 16):
        apart.append(float((flowed(case, step(0.4 / steps), steps) - flowed(other, step(0.4 / steps), steps)).norm()))
    for a, b in zip(apart, apart[1:], strict=False):
        assert a / b == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize("midpoint, order", [(False, 1), (True, 2)])
def test_on_the_lqrs_closed_form_too(midpoint, order):
    """theta = (k, sigma) against (k, log sigma), by LQR's own natural gradient."""
    lqr = LQR()

    def run(logarithm: bool, steps: int) -> Tensor:
        theta = torch.tensor([-0.3, 0.5], dtype=torch.float64)
        theta = torch.stack([theta[0], theta[1].log()]) if logarithm else theta
        step, h = Midpoint(0.02 / steps, FAR), 0.02 / steps

        def direction(at: Tensor) -> Tensor:
            k, sigma = float(at[0]), float(at[1].exp() if logarithm else at[1])
            x = torch.as_tensor(lqr.natural_gradient(k, sigma), dtype=torch.float64)
            return torch.stack([x[0], x[1] / sigma]) if logarithm else x

        class There:
            def squared_length(self, x: Tensor) -> Tensor:
                return torch.dot(x, x)

            def in_domain(self, at: Tensor) -> bool:
                return bool(at.isfinite().all())

            def solve_at(self, at: Tensor) -> Tensor:
                return direction(at)

        for _ in range(steps):
            x = direction(theta)
            theta = step.step({}, theta, along(x), torch.tensor(1.0), There())[0] if midpoint else theta + h * x
        return torch.stack([theta[0], theta[1].exp()]) if logarithm else theta

    apart = [float((run(False, n) - run(True, n)).norm()) for n in (4, 8, 16)]
    for a, b in zip(apart, apart[1:], strict=False):
        assert a / b == pytest.approx(2**order, rel=0.25)


@pytest.mark.parametrize("head", ["categorical", "log_sigma", "sigma"])
def test_it_is_two_dense_solves(head):
    case, rate, lam = make_case(head, weights="masked"), 0.05, 0.1
    update = Update(
        case.network, case.head, Surrogate(0.0), Fisher(None, 0), Dense("refuse"), Constant(lam), Midpoint(rate, FAR)
    )

    def x(theta: Tensor) -> Tensor:
        at = replace(case, theta=theta)
        return torch.linalg.solve(
            fisher(at) + lam * torch.eye(len(theta), dtype=torch.float64), gradient(at, "surrogate")
        )

    before = case.theta.clone()
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    middle = x(before + rate / 2 * x(before))
    assert close(theta, before + rate * middle, 1e-9) and torch.equal(case.theta, before)
    assert float(report.scalars["step/bend"]) == pytest.approx(
        float((middle - x(before)).norm() / x(before).norm()), rel=1e-6
    )
    assert float(report.scalars["step/kl_predicted"]) == pytest.approx(
        rate**2 * float(middle @ fisher(replace(case, theta=before)) @ middle) / 2, rel=1e-8
    )


def test_frozen_parameters_stay_at_the_midpoint_too():
    """Even where a direction moves them, as one of a metric that is no pull-back may."""
    case, rate = make_case("log_sigma", weights="masked"), 0.05
    case.network.freeze(["0.*"])
    free = case.network.free.double()

    class Everywhere(Dense):
        def prepare(self, state, curvature, damping):
            def solve(g):
                return along(g + 3.0)

            return solve, state

    parts = (Surrogate(0.0), Fisher(None, 0), Everywhere("refuse"), Constant(0.1), Midpoint(rate, FAR))
    update = Update(case.network, case.head, *parts)
    before = case.theta.clone()
    middle = before + rate / 2 * free * (gradient(case, "surrogate") * free + 3)
    x = gradient(replace(case, theta=middle), "surrogate") + 3
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.scalars["step/accepted"] == 1
    assert close(theta, before + rate * free * x, 1e-10)


def test_the_radius_bounds_the_first_directions_kl():
    case, x = make_case("log_sigma", weights="masked"), randn(len(make_case("log_sigma").theta), seed=4)
    there = replace(problem(case), solve_at=lambda theta: x)
    for radius in (1e-4, 1e-2):
        step = Midpoint(1e9, radius)
        _, _, scalars = step.step({}, case.theta, along(x), torch.tensor(1.0), there)
        assert float(scalars["step/kl_predicted"]) == pytest.approx(radius, rel=1e-9) and scalars["step/clipped"]


@pytest.mark.parametrize("lost", ["no direction", "midpoint", "step"])
def test_where_it_cannot_go_on_the_step_is_rejected(lost):
    case = make_case("sigma", weights="masked")
    x, small = shrinking_sigma(case), 1e-6 * randn(len(case.theta), seed=4)
    answers = {"no direction": (small, None), "midpoint": (x, small), "step": (small, x)}
    first, found = answers[lost]
    there = replace(problem(case), solve_at=lambda theta: found)
    before = bits(case.theta)
    theta, state, scalars = Midpoint(1.0, FAR).step({}, case.theta, along(first), torch.tensor(1.0), there)
    assert scalars["step/accepted"] == 0 and state == {} and bits(theta) == bits(case.theta) == before


def test_a_failing_solve_halfway_rejects_and_keeps_every_state():
    case = make_case("log_sigma", weights="masked")

    class Once(Dense):
        """Dense that fails from its second preparation on."""

        calls = 0

        def prepare(self, state, curvature, damping):
            Once.calls += 1
            if Once.calls > 1:
                raise NumericalFailure("no second time")
            return super().prepare(state, curvature, damping)

    update = Update(
        case.network, case.head, Surrogate(0.0), Fisher(1, 0), Once("refuse"), Constant(0.1), Midpoint(0.1, FAR)
    )
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, after, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 0
    assert bits((theta, {**after, "step": state["step"]})) == before


def test_without_an_update_around_it_there_is_no_direction():
    case = make_case("categorical")
    _, _, scalars = take(Midpoint(0.1, FAR), case, randn(len(case.theta)))
    assert scalars["step/accepted"] == 0


@pytest.mark.parametrize("options", [(0.0, 1.0), (1.0, 0.0)])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be a finite number above 0"):
        Midpoint(*options)
