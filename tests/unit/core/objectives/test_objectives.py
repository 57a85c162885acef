"""Every objective against its definition: gradient, values beside it, entropy bonus and the range of its options."""

import math
from dataclasses import replace

import pytest
import torch

from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.spo import SPO
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from tests.support import oracles
from tests.support.oracles import POLICIES, TAPES, close, make_case
from tests.support.updates import OBJECTIVES, gradient


@pytest.mark.parametrize("weights", ["uniform", "masked"])
@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("objective", ["log_prob", "surrogate", "clipped", "spo"])
@pytest.mark.parametrize("head", POLICIES)
def test_g_is_the_gradient_of_the_weighted_objective(head, objective, tape, weights):
    case = make_case(head, tape, weights, moved=0.1)
    assert close(gradient(case, OBJECTIVES[objective]), oracles.gradient(case, objective), 1e-12)


@pytest.mark.parametrize("tape", TAPES)
def test_g_of_the_value_objective_is_that_of_weighted_squares(tape):
    case = make_case("value", tape, "masked")
    assert close(gradient(case, Value()), oracles.gradient(case, "value"), 1e-12)


@pytest.mark.parametrize("objective", ["log_prob", "surrogate", "clipped", "spo"])
@pytest.mark.parametrize("head", POLICIES)
def test_g_holds_the_entropy_bonus(head, objective):
    case = make_case(head, weights="masked", moved=0.1)
    with_bonus = replace(OBJECTIVES[objective], entropy=0.3)
    assert close(gradient(case, with_bonus), oracles.gradient(case, objective, entropy=0.3), 1e-12)
    assert not close(gradient(case, with_bonus), gradient(case, OBJECTIVES[objective]), 1e-6)


@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_values_alone_are_those_beside_the_gradient(objective, entropy):
    case = make_case("value" if objective == "value" else "sigma", moved=0.3)
    part = OBJECTIVES[objective] if objective == "value" else replace(OBJECTIVES[objective], entropy=entropy)
    z = case.tape.outputs
    values, _ = part.values_and_gradient(case.head, z, case.samples)
    assert close(part.values(case.head, z, case.samples), values, 1e-14)
    options = {} if objective == "value" else {"entropy": entropy}
    assert close(case.samples.mean(values), oracles.objective(case, objective, case.theta, **options), 1e-12)


def test_some_ratios_of_those_cases_are_clipped_and_some_are_not():
    case = make_case("sigma", weights="masked", moved=0.3)
    ratio = (case.head.log_prob(case.tape.outputs, case.samples.actions) - case.samples.old_log_prob).exp()
    outside = (ratio - 1).abs() > 0.2
    assert 0 < int(outside.sum()) < len(ratio)
    assert not close(gradient(case, OBJECTIVES["clipped"]), gradient(case, OBJECTIVES["surrogate"]), 1e-6)


@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_spos_gradient_is_0_at_its_distance_and_leads_back(advantage):
    case, objective = make_case("log_sigma", moved=0.3), SPO(0.2, 0.0)
    z, s = case.tape.outputs, case.samples
    best = 1.2 if advantage > 0 else 0.8
    for ratio, sign in ((best, 0), (best - 0.1, 1), (best + 0.1, -1)):
        old = case.head.log_prob(z, s.actions) - math.log(ratio)
        samples = s.replacing(old_log_prob=old, advantages=torch.full_like(old, advantage))
        _, slope = objective.values_and_gradient(case.head, z, samples)
        score = case.head.log_prob_and_score(z, s.actions)[1]
        along = (slope * score).sum(1) / (score * score).sum(1)
        assert (along.sign() == sign).all() if sign else along.abs().max() < 1e-12


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Clipped(0.0, 0.0), "clip must be"),
        (lambda: Clipped(0.2, -1.0), "entropy must be"),
        (lambda: SPO(0.0, 0.0), "distance must be a finite number above 0; got 0.0"),
        (lambda: SPO(0.2, -1.0), "entropy must be"),
        (lambda: LogProb(-1.0), "entropy must be a finite number, 0 or above; got -1.0"),
        (lambda: Surrogate(math.nan), "entropy must be"),
    ],
)
def test_objectives_refuse_numbers_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()
