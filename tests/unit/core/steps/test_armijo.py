"""Armijo's line search: the first length that gains its share, or none."""

import math
from dataclasses import replace

import pytest

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.update import Update
from tests.support import oracles
from tests.support.oracles import POLICIES, bits, close, make_case, mean_kl
from tests.support.stepping import shrinking_sigma, take

ARMIJO = Armijo(rate=1.0, shrink=0.5, backtracks=20, c=1e-4)


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
        (lambda: Armijo(-1.0, 0.5, 3, 0.1), "rate must be"),
        (lambda: Armijo(1.0, 1.0, 3, 0.1), "shrink must be above 0 and below 1"),
        (lambda: Armijo(1.0, 0.5, -1, 0.1), "backtracks must be"),
        (lambda: Armijo(1.0, 0.5, 3, 0.0), "c must be above 0 and below 1"),
    ],
)
def test_options_outside_their_range_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
