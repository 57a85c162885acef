"""Levenberg-Marquardt: lambda follows the agreement of the metric's model with what was measured."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.damping.constant import Constant
from rlopt.core.damping.levenberg_marquardt import LevenbergMarquardt
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.network import Network
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.problem import Problem
from rlopt.core.samples import Samples
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from rlopt.core.update import Update
from tests import oracles
from tests.oracles import Case, bits, close, fisher, make_case, mean_kl

LM = LevenbergMarquardt(
    value=0.1, low=0.25, high=0.75, factor_up=4.0, factor_down=0.5, smallest=1e-8, largest=1e8
)  # fmt: skip
SGD = Optimizer(
    {"name": "SGD", "lr": 0.5, "momentum": 0.5}, {"name": "ConstantLR", "factor": 1.0, "total_iters": 1}, max_norm=None
)
LINE_SEARCH = KLLineSearch(0.05, shrink=0.8, backtracks=10, accept_ratio=0.0, largest=1e6)
STEPS = {
    "fixed": Fixed(0.7),
    "trust_region": TrustRegion(0.05, 1e3),
    "kl_clip": KLClip(1.0, 0.05, 0.5),
    "kl_line_search": LINE_SEARCH,
    "armijo": Armijo(1.0, 0.5, 20, 1e-4),
    "sgd": SGD,
}


def updating(case: Case, metric, solver, damping, step, objective=None) -> Update:
    return Update(case.network, case.head, objective or Surrogate(0.0), metric, solver, damping, step)


def value_case(**options) -> Case:
    return make_case("value", weights="masked", **options)


# --- lambda as a function of rho


@pytest.mark.parametrize(
    ("rho", "factor"),
    [(-3.0, 4.0), (0.0, 4.0), (0.2499, 4.0), (0.25, 1.0), (0.5, 1.0), (0.75, 1.0), (0.7501, 0.5), (math.inf, 0.5)],
)
def test_lambda_rises_below_low_falls_above_high_and_stays_between(rho, factor):
    state = {"lambda": 2.0}
    new = LM.adapt(state, {"damping/agreement": torch.tensor(rho), "step/accepted": 1.0})
    assert new == {"lambda": 2.0 * factor} and state == {"lambda": 2.0}
    assert LM.current(new) == 2.0 * factor


def test_lambda_rises_after_a_rejected_step_and_stays_where_rho_is_no_number():
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


# --- rho


def newton(case: Case) -> Tensor:
    return oracles.hessian(lambda theta: -oracles.objective(case, "value", theta), case.theta)


def gauss_newton(case: Case) -> Tensor:
    J = oracles.jacobian(case)
    return torch.einsum("b,boi,boj->ij", oracles.share(case.samples), J, J) / case.head.variance


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("kind", ["hessian", "ggn"])
def test_rho_is_measured_over_predicted_improvement_of_the_step_that_was_taken(kind, step):
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
    for metric, solver in ((IdentityMetric(), Identity()), (EmpiricalFisher(), Dense())):
        with pytest.raises(ValueError, match="metric must be fisher, ggn or hessian, or damping constant"):
            updating(case, metric, solver, LM, Fixed(0.1))
        updating(case, metric, solver, Constant(0.1), Fixed(0.1))


# --- what it does to a training


def test_a_good_model_lowers_lambda_and_a_bad_one_raises_it():
    linear = value_case(hidden=())  # the model is the objective itself
    update = updating(linear, GGN("clipped"), Dense(), LM, Fixed(1.0), Value())
    _, state, report = update(linear.theta, update.init(linear.theta), linear.samples)
    assert float(report.scalars["damping/agreement"]) == pytest.approx(1.0, rel=1e-9)
    assert state["damping"] == {"lambda": 0.1 * LM.factor_down}

    bent = Bent.case(torch.tensor([-1.5, 0.5], dtype=torch.float64))
    update = updating(bent, GGN("clipped"), Dense(), replace(LM, value=1e-6), Fixed(1.0), Value())
    _, state, report = update(bent.theta, update.init(bent.theta), bent.samples)
    assert float(report.scalars["damping/agreement"]) < 0
    assert state["damping"] == {"lambda": 1e-6 * LM.factor_up}


class NowhereUphill(Identity):
    """A direction that no search can accept."""

    needs = frozenset()

    def prepare(self, state, curvature, damping):
        solve, state = Identity.prepare(self, state, curvature, damping)
        return lambda g: replace(solve(g), x=-g), state


@pytest.mark.parametrize("step", [LINE_SEARCH, STEPS["armijo"]], ids=["kl_line_search", "armijo"])
def test_a_rejected_step_raises_lambda_and_leaves_all_else_to_the_bit(step):
    case = make_case("categorical", weights="masked")
    update = updating(case, Fisher(2, 0), NowhereUphill(), LM, step)
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new, report = update(case.theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0 and theta is case.theta
    assert bits((case.theta, state)) == before
    assert new["damping"] == {"lambda": 0.1 * LM.factor_up}
    assert bits({**new, "damping": state["damping"]}) == bits(state)


def test_an_optimizer_step_out_of_the_domain_raises_lambda_and_returns_the_theta_it_was_given():
    case = make_case("sigma", weights="masked")
    sign = -oracles.gradient(case, "surrogate")[-1].sign()
    case = replace(case, samples=replace(case.samples, advantages=1e6 * sign * case.samples.advantages))
    update = updating(case, Fisher(None, 0), KFAC("exact", 0.0, 1, 1), LM, SGD)
    before, state = bits(case.theta), update.init(case.theta)
    theta, new, report = update(case.theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0
    assert theta is case.theta and bits(theta) == before and new["damping"]["lambda"] == 0.1 * LM.factor_up


class Bent(nn.Module):
    """z = the residuals of a least-squares problem in p = (u, v): a bent valley, v = u^2, along which f(u) falls.

    Rosenbrock's is f = 1 - u. With f = 2 atan(1 - u) Gauss-Newton overshoots further at each step from |1 - u| > 1.39.
    """

    def __init__(self, start: Tensor, rosenbrock: bool):
        super().__init__()
        self.p, self.rosenbrock = nn.Parameter(start.clone()), rosenbrock

    def forward(self, which: Tensor) -> Tensor:
        u, v = self.p
        along = 1 - u if self.rosenbrock else 2 * torch.atan(1 - u)
        return which @ torch.stack([10 * (v - u**2), along])[:, None]

    @classmethod
    def case(cls, start: Tensor, rosenbrock: bool = False) -> Case:
        module = cls(start, rosenbrock)
        both = torch.eye(2, dtype=torch.float64)
        samples = Samples(inputs=both, actions=torch.zeros(2, 1, dtype=torch.float64), weight=torch.ones(2).double())
        return Case(module, Network(module), heads.Value(), start.clone(), samples)


def train(case: Case, metric, solver, damping, step, updates: int) -> tuple[Tensor, list[float], str | None]:
    update = updating(case, metric, solver, damping, step, Value())
    theta, state, lambdas = case.theta, update.init(case.theta), []
    for _ in range(updates):
        theta, state, report = update(theta, state, case.samples)
        if report.failure:
            return theta, lambdas, report.failure
        lambdas.append(damping.current(state["damping"]))
    return theta, lambdas, None


@pytest.mark.parametrize("step", [Fixed(1.0), STEPS["armijo"]], ids=["fixed", "armijo"])
@pytest.mark.parametrize("start", [(-1.2, 1.0), (0.0, 0.005), (3.0, -2.0)])
def test_it_reaches_rosenbrocks_minimum(start, step):
    case = Bent.case(torch.tensor(start, dtype=torch.float64), rosenbrock=True)
    theta, lambdas, failure = train(case, GGN("clipped"), Dense(), LM, step, 100)
    assert failure is None and close(theta, torch.ones(2, dtype=torch.float64), 1e-6)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (4.0, 9.0)])
def test_it_reaches_the_minimum_of_a_bent_valley_where_the_undamped_step_diverges(start):
    case = Bent.case(torch.tensor(start, dtype=torch.float64))
    theta = case.theta
    for _ in range(4):
        here = replace(case, theta=theta)
        theta = theta + torch.linalg.solve(gauss_newton(here), oracles.gradient(here, "value"))
    assert theta.abs().max() > 1e6
    theta, lambdas, failure = train(case, GGN("clipped"), Dense(), replace(LM, value=1e-4), STEPS["armijo"], 100)
    assert failure is None and close(theta, torch.ones(2, dtype=torch.float64), 1e-6)
    assert max(lambdas[:10]) > 1e-4


def test_with_newtons_metric_it_leaves_a_point_where_the_hessian_is_singular():
    case = Bent.case(torch.tensor([0.0, 0.005], dtype=torch.float64), rosenbrock=True)
    H = oracles.hessian(
        lambda p: (oracles.outputs(case.module, p, case.samples.inputs) ** 2).sum() / 4, case.theta
    )  # fmt: skip
    assert torch.linalg.eigvalsh(H)[0].abs() < 1e-12
    solver = Dense("absolute")
    theta, _, failure = train(case, Hessian(), solver, LM, STEPS["armijo"], 100)
    assert failure is None and close(theta, torch.ones(2, dtype=torch.float64), 1e-6)


def test_training_on_from_a_copied_state_gives_the_same_bits():
    case = make_case("categorical", weights="masked")
    update = updating(case, Fisher(None, 0), KFAC("exact", 0.9, 2, 1), LM, KLClip(1.0, 0.01, 0.9))

    def run(theta, state, count):
        for _ in range(count):
            theta, state, report = update(theta, state, case.samples)
            assert report.failure is None
        return theta, state

    theta, state = run(case.theta, update.init(case.theta), 3)
    copied = {k: dict(v) for k, v in state.items()}
    assert state["damping"]["lambda"] != LM.value
    assert bits(run(theta, state, 3)) == bits(run(theta.clone(), copied, 3))
