"""The KL clip with momentum after it, and Armijo's line search."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import Solution
from rlopt.core.problem import Problem
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.update import Update
from tests.support import oracles
from tests.support.oracles import POLICIES, TAPES, Case, bits, close, fisher, make_case, mean_kl, randn

ARMIJO = Armijo(rate=1.0, shrink=0.5, backtracks=20, c=1e-4)


def problem(case: Case, theta: Tensor | None = None) -> Problem:
    tape = case.network.tape(case.theta if theta is None else theta, case.samples.inputs)
    objective = Surrogate(entropy=0.0)
    value = case.samples.mean(objective.values(case.head, tape.outputs, case.samples))
    return Problem(case.network, case.head, objective, case.samples, tape, value)


def along(x: Tensor, damping: float = 0.0) -> Solution:
    return Solution(x, 0.0, 0.0, torch.ones((), dtype=x.dtype), damping)


def take(step, case: Case, x: Tensor, state=None, theta: Tensor | None = None, slope: float = 1.0, damping: float = 0):
    theta = case.theta if theta is None else theta
    state = step.init(theta) if state is None else state
    return step.step(state, theta, along(x, damping), torch.tensor(slope, dtype=x.dtype), problem(case, theta))


def shrinking_sigma(case: Case) -> Tensor:
    x = torch.zeros_like(case.theta)
    x[-2:] = -10.0
    return x


# --- kl_clip


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


# --- armijo


@pytest.mark.parametrize("c", [1e-4, 0.5, 0.9])
@pytest.mark.parametrize("rate", [1.0, 100.0])
@pytest.mark.parametrize("head", POLICIES)
def test_armijo_takes_the_first_length_that_gains_its_share(head, rate, c):
    case = make_case(head, weights="masked")
    g, start = oracles.gradient(case, "surrogate"), oracles.objective(case, "surrogate", case.theta)
    slope = float(g @ g)

    def gains(alpha: float) -> bool:
        theta = case.theta + alpha * g
        if case.head.bounded and not case.head.in_domain(oracles.outputs(case.module, theta, case.samples.inputs)):
            return False
        return float(oracles.objective(case, "surrogate", theta) - start) >= c * alpha * slope

    alphas = [rate * 0.5**i for i in range(21)]
    first = next(i for i, alpha in enumerate(alphas) if gains(alpha))
    theta, state, scalars = take(Armijo(rate, 0.5, 20, c), case, g, slope=slope)
    assert scalars["step/accepted"] == 1 and state == {}
    assert scalars["step/backtracks"] == first and scalars["step/size"] == alphas[first]
    assert close(theta, case.theta + alphas[first] * g, 1e-14)
    gain = oracles.objective(case, "surrogate", theta) - start
    assert float(scalars["step/improvement_measured"]) == pytest.approx(float(gain), rel=1e-9)
    assert float(scalars["step/improvement_predicted"]) == pytest.approx(alphas[first] * slope, rel=1e-12)
    assert float(scalars["step/kl_measured"]) == pytest.approx(float(mean_kl(case, theta)), rel=1e-8)


def test_some_of_those_searches_had_to_backtrack():
    case = make_case("categorical", weights="masked")
    g = oracles.gradient(case, "surrogate")
    _, _, scalars = take(Armijo(100.0, 0.5, 20, 0.5), case, g, slope=float(g @ g))
    assert scalars["step/backtracks"] > 0


@pytest.mark.parametrize("sign", [-1.0, 0.0])
def test_armijo_rejects_a_direction_that_does_not_point_uphill(sign):
    case = make_case("categorical", weights="masked")
    g = oracles.gradient(case, "surrogate")
    before = bits(case.theta)
    theta, state, scalars = take(ARMIJO, case, sign * g, slope=sign * float(g @ g))
    assert theta is case.theta and bits(theta) == before and state == {}
    assert scalars["step/accepted"] == 0 and scalars["step/size"] == 0
    assert "step/kl_measured" not in scalars and "step/improvement_measured" not in scalars


def test_armijo_rejects_without_a_candidate_or_a_finite_measure():
    case = make_case("categorical", weights="masked")
    g = oracles.gradient(case, "surrogate")
    few = Armijo(rate=1e6, shrink=0.9, backtracks=2, c=0.9)
    theta, _, scalars = take(few, case, g, slope=float(g @ g))
    assert theta is case.theta and scalars["step/accepted"] == 0 and scalars["step/backtracks"] == 2
    theta, _, scalars = take(few, case, g * math.nan, slope=1.0)
    assert theta is case.theta and scalars["step/accepted"] == 0


def test_armijo_backtracks_into_the_domain():
    case = make_case("sigma", weights="masked")
    x = shrinking_sigma(case)
    slope = float(oracles.gradient(case, "surrogate") @ x)
    case = replace(case, samples=replace(case.samples, advantages=math.copysign(1, slope) * case.samples.advantages))
    theta, _, scalars = take(ARMIJO, case, x, slope=abs(slope))
    assert scalars["step/accepted"] == 1 and scalars["step/backtracks"] > 0
    assert (theta[-2:] > 0).all()


def test_armijo_needs_the_whole_batch_and_kl_clip_does_not():
    case = make_case("categorical")
    parts = (Surrogate(0.0), IdentityMetric(), Identity(), Constant(0.1))
    with pytest.raises(ValueError, match="Armijo needs the whole batch, and no minibatches of 8"):
        Learner(Update(case.network, case.head, *parts, ARMIJO), Schedule(1, 8, None))
    Learner(Update(case.network, case.head, *parts, KLClip(1.0, 0.01, 0.0)), Schedule(1, 8, None))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KLClip(0.0, 0.01, 0.9), "rate must be a finite number above 0"),
        (lambda: KLClip(1.0, math.nan, 0.9), "radius must be"),
        (lambda: KLClip(1.0, 0.01, 1.0), "momentum must be 0 or above, and below 1; got 1.0"),
        (lambda: Armijo(-1.0, 0.5, 3, 0.1), "rate must be"),
        (lambda: Armijo(1.0, 1.0, 3, 0.1), "shrink must be above 0 and below 1"),
        (lambda: Armijo(1.0, 0.5, -1, 0.1), "backtracks must be"),
        (lambda: Armijo(1.0, 0.5, 3, 0.0), "c must be above 0 and below 1"),
    ],
)
def test_options_outside_their_range_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
