"""Levenberg-Marquardt: lambda follows the agreement of the metric's model with what was measured."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.problem import Problem
from rlopt.core.requirements import Remedy
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.fixed import Fixed
from tests.support import oracles
from tests.support.adapting import LINE_SEARCH, LM, STEPS, gauss_newton, updating, value_case
from tests.support.oracles import Case, bits, fisher, make_case, mean_kl


@pytest.mark.parametrize(
    ("rho", "factor"),
    [(-3.0, 4.0), (0.0, 4.0), (0.2499, 4.0), (0.25, 1.0), (0.5, 1.0), (0.75, 1.0), (0.7501, 0.5), (math.inf, 0.5)],
)
def test_lambda_rises_below_low_falls_above_high_stays_between(rho, factor):
    state = {"lambda": 2.0}
    new = LM.adapt(state, {"damping/agreement": torch.tensor(rho), "step/accepted": 1.0})
    assert new == {"lambda": 2.0 * factor} and state == {"lambda": 2.0}
    assert LM.current(new) == 2.0 * factor


def test_lambda_rises_after_a_rejection_and_stays_if_rho_is_nan():
    assert LM.adapt({"lambda": 2.0}, {"step/accepted": 0.0}) == {"lambda": 8.0}
    assert LM.adapt({"lambda": 2.0}, {"damping/agreement": math.nan, "step/accepted": 1.0}) == {"lambda": 2.0}


def test_lambda_stays_within_its_bounds():
    tight = replace(LM, smallest=0.08, largest=0.3)
    state = tight.init()
    assert state == {"lambda": 0.1}
    assert tight.adapt(state, {"step/accepted": 0.0}) == {"lambda": 0.3}
    assert tight.adapt(state, {"damping/agreement": 1.0, "step/accepted": 1.0}) == {"lambda": 0.08}


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("value", 0.0, "value must be a finite number above 0"),
        ("value", 1e9, "value must be between smallest and largest"),
        ("low", 0.8, "low must be below high"),
        ("factor_up", 1.0, "factor_up must be a finite number above 1"),
        ("factor_down", 1.0, "factor_down must be above 0 and below 1"),
        ("smallest", -1.0, "smallest must be"),
        ("largest", math.inf, "largest must be"),
    ],
)
def test_options_outside_their_range_are_refused(option, value, says):
    with pytest.raises(ValueError, match=says):
        replace(LM, **{option: value})


def newton(case: Case) -> Tensor:
    return oracles.hessian(lambda theta: -oracles.objective(case, "value", theta), case.theta)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_rho_is_measured_over_predicted_improvement_of_the_step(kind, step):
    case = value_case()
    metric, curvature = (Hessian(), newton) if kind == "hessian" else (GGN("clipped"), gauss_newton)
    solver = Dense("absolute") if kind == "hessian" else KFAC("exact", 0.0, 1, 1)
    update = updating(case, metric, solver, replace(LM, value=1.0), step, Value())
    before, state = bits(case.theta), update.init(case.theta)
    theta = case.theta
    for _ in range(2):  # the second with velocity, where there is any
        case = replace(case, theta=theta)
        start, at = bits(theta), theta
        g, M = oracles.gradient(case, "value"), curvature(case)
        theta, state, report = update(theta, state, case.samples)
        assert report.failure is None and report.scalars["step/accepted"] and bits(at) == start
        d = theta - at
        actual = oracles.objective(case, "value", theta) - oracles.objective(case, "value", at)
        predicted = g @ d - d @ M @ d / 2
        rho = float(report.scalars["damping/agreement"])
        if predicted > 0:
            assert rho == pytest.approx(float(actual / predicted), rel=1e-6)
        else:
            assert math.isnan(rho)
    assert bits(theta) != before


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("head", ["categorical", "log_sigma"])
def test_rho_of_a_fisher_metric_is_predicted_over_measured_kl(head, step):
    case = make_case(head, weights="masked")
    F = fisher(case)
    update = updating(case, Fisher(None, 0), KFAC("exact", 0.0, 1, 1), LM, step)
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.scalars["step/accepted"]
    d = theta - case.theta
    assert float(report.scalars["damping/agreement"]) == pytest.approx(
        float(d @ F @ d / 2 / mean_kl(case, theta)), rel=1e-6
    )


@pytest.mark.parametrize("step", [LINE_SEARCH, STEPS["armijo"]], ids=["kl_line_search", "armijo"])
@pytest.mark.parametrize("kind", ["kl", "objective"])
def test_a_step_that_measures_is_not_measured_again(kind, step, monkeypatch):
    case = value_case() if kind == "objective" else make_case("categorical", weights="masked")
    metric, objective = (GGN("clipped"), Value()) if kind == "objective" else (Fisher(None, 0), Surrogate(0.0))
    trials, measure = [], Problem.trial

    def counting(self, theta):
        trials.append(theta)
        return measure(self, theta)

    monkeypatch.setattr(Problem, "trial", counting)
    update = updating(case, metric, KFAC("exact", 0.0, 1, 1), LM, step, objective)
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert len(trials) == report.scalars["step/backtracks"] + 1
    kl = float(report.scalars["step/kl_measured"])
    assert kl == pytest.approx(float(mean_kl(case, theta)), rel=1e-9)
    name = "value" if kind == "objective" else "surrogate"
    gain = oracles.objective(case, name, theta) - oracles.objective(case, name, case.theta)
    assert float(report.scalars["step/improvement_measured"]) == pytest.approx(float(gain), rel=1e-9)


def test_a_constant_damping_measures_nothing(monkeypatch):
    case = make_case("categorical", weights="masked")
    monkeypatch.setattr(Problem, "trial", None)
    update = updating(case, Fisher(None, 0), KFAC("exact", 0.0, 1, 1), Constant(0.1), Fixed(0.1))
    _, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.scalars["step/accepted"] and "damping/agreement" not in report.scalars


def test_a_metric_whose_model_cannot_be_measured_is_refused():
    case = make_case("categorical")
    for metric, solver in ((IdentityMetric(), Identity()), (EmpiricalFisher(), Dense("refuse"))):
        with pytest.raises(ValueError, match="model of the KL divergence or of the objective") as refused:
            updating(case, metric, solver, LM, Fixed(0.1))
        assert refused.value.remedy is Remedy.OTHER_METRIC
        updating(case, metric, solver, Constant(0.1), Fixed(0.1))
