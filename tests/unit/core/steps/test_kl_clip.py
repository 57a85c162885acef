"""The KL clip, with momentum after it."""

import math
from dataclasses import replace

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.update import Update
from tests.support import oracles
from tests.support.oracles import POLICIES, TAPES, bits, close, fisher, make_case, mean_kl, randn
from tests.support.stepping import shrinking_sigma, take


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", POLICIES)
def test_the_clipped_kl_nears_the_radius_as_the_radius_shrinks(head, tape):
    case, x = make_case(head, tape, "masked"), randn(len(make_case(head).theta), seed=4)
    errors = []
    for radius in (1e-4, 1e-6):
        theta, state, scalars = take(KLClip(1e9, radius, 0.0), case, x)
        assert state == {} and scalars["step/accepted"] == 1 and scalars["step/clipped"]
        assert float(scalars["step/kl_predicted"]) == pytest.approx(radius, rel=1e-9)
        assert close(theta, case.theta + scalars["step/size"] * x, 1e-14)
        errors.append(abs(float(mean_kl(case, theta)) / radius - 1))
    assert errors[0] < 0.1 and errors[1] < 0.01


def test_the_bound_is_of_the_analytic_fisher_or_larger_damping():
    case, x = make_case("sigma", weights="masked"), randn(len(make_case("sigma").theta), seed=4)
    q = float(x @ fisher(case) @ x)
    for damping in (0.0, 1e3):
        bound = math.sqrt(2 * 0.01 / max(q, (q + damping * float(x @ x)) / 4))
        for rate in (bound / 3, 3 * bound):
            _, _, scalars = take(KLClip(rate, 0.01, 0.0), case, x, damping=damping)
            assert float(scalars["step/size"]) == pytest.approx(min(rate, bound), rel=1e-9)
            assert bool(scalars["step/clipped"]) == (rate > bound)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_velocity_is_the_convex_average_of_clipped_steps(momentum):
    case, step = make_case("log_sigma", weights="masked"), KLClip(0.5, 0.01, momentum)
    theta, state, velocity = case.theta, step.init(case.theta), torch.zeros_like(case.theta)
    for i in range(4):
        x, before = randn(len(theta), seed=i), bits((theta, state))
        moved, new, scalars = take(step, case, x, state, theta)
        assert bits((theta, state)) == before
        here = replace(case, theta=theta)
        alpha = min(0.5, math.sqrt(2 * 0.01 / float(x @ fisher(here) @ x)))
        velocity = momentum * velocity + (1 - momentum) * alpha * x
        assert float(scalars["step/size"]) == pytest.approx(alpha, rel=1e-9)
        assert close(new["velocity"], velocity, 1e-12) and close(moved, theta + velocity, 1e-12)
        theta, state = moved, new


def test_a_velocity_is_at_most_its_longest_averaged_step():
    case, step = make_case("categorical", weights="masked"), KLClip(1e9, 0.01, 0.9)
    F, state = fisher(case), step.init(case.theta)
    for i in range(30):
        _, state, _ = take(step, case, randn(len(case.theta), seed=i % 3), state)  # always from the same theta
        assert float(state["velocity"] @ F @ state["velocity"]) / 2 <= 0.01 * (1 + 1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_clip_that_leaves_the_domain_is_rejected_to_the_bit(momentum):
    case, step = make_case("sigma", weights="masked"), KLClip(1e9, 1e4, momentum)
    theta, state, scalars = take(step, case, 1e-3 * randn(len(case.theta)), None)
    start = bits((case.theta, state))
    after, new, scalars = take(step, case, shrinking_sigma(case), state)
    assert scalars["step/accepted"] == 0
    assert after is case.theta and bits((after, new)) == start


def test_a_direction_without_curvature_goes_the_whole_rate():
    case = make_case("categorical")
    x = torch.zeros_like(case.theta)
    theta, _, scalars = take(KLClip(0.3, 0.01, 0.0), case, x)
    assert scalars["step/size"] == 0.3 and torch.equal(theta, case.theta)
    x[-3:] = 1.0  # all logits by the same amount: no change of policy
    _, _, scalars = take(KLClip(0.3, 0.01, 0.0), case, x)
    assert float(scalars["step/size"]) == pytest.approx(0.3)


def test_acktr_learns_with_minibatches_and_kl_near_its_radius():
    case = make_case("categorical", weights="masked", count=60)
    parts = (Surrogate(0.0), Fisher(1, 0), KFAC("factored", 0.9, 1, 1), Constant(0.01), KLClip(1.0, 1e-3, 0.9))
    learner = Learner(Update(case.network, case.head, *parts), Schedule(epochs=2, minibatch=20, target_kl=None))
    theta, state = case.theta, learner.init(case.theta)
    theta, state, outcome = learner.run(theta, state, case.samples, oracles.seeded(0), epochs=8)
    assert outcome.steps == 24 and outcome.skipped == 0
    assert oracles.objective(case, "surrogate", theta) > oracles.objective(case, "surrogate", case.theta)
    assert mean_kl(case, theta) < 24**2 * 1e-3  # lengths add at most


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KLClip(0.0, 0.01, 0.9), "rate must be a finite number above 0"),
        (lambda: KLClip(1.0, math.nan, 0.9), "radius must be"),
        (lambda: KLClip(1.0, 0.01, 1.0), "momentum must be 0 or above, and below 1; got 1.0"),
    ],
)
def test_options_outside_their_range_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
