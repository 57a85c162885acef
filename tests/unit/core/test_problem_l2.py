"""The term -l2 / 2 |theta|^2 of every objective: its gradient, its place in a Hessian, and what a step measures of it."""

from dataclasses import replace

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.problem import Problem
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update, agreement
from tests.support import oracles
from tests.support.oracles import close, eye, make_case, seeded

L2, LAMBDA = 0.3, 0.1


def penalised(case, theta):
    """() the weighted mean objective less l2 / 2 |theta|^2."""
    name = "value" if case.head is oracles.HEADS["value"] else "surrogate"
    return oracles.objective(case, name, theta) - L2 / 2 * theta @ theta


def updating(case, metric, solver, damping=LAMBDA):
    objective = Value() if case.head is oracles.HEADS["value"] else Surrogate(0.0)
    return Update(case.network, case.head, objective, metric, solver, Constant(damping), Fixed(1.0), l2=L2)


def moved(case, update):
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.failure is None
    return theta - case.theta, report


def gradient(case):
    leaf = case.theta.clone().requires_grad_()
    return torch.autograd.grad(penalised(case, leaf), leaf)[0]


@pytest.mark.parametrize("head", ["categorical", "log_sigma", "value"])
def test_steps_follow_g_less_l2_theta_and_that_over_fisher(head):
    case = make_case(head, weights="masked")
    g = gradient(case)
    d, report = moved(case, updating(case, Euclidean(), Identity()))
    assert close(d, g, 1e-12)
    assert float(report.scalars["objective/value"]) == pytest.approx(float(penalised(case, case.theta)), rel=1e-12)
    F = oracles.fisher(case)
    natural, _ = moved(case, updating(case, Fisher(None, 0), Dense("refuse")))
    assert close(natural, torch.linalg.solve(F + LAMBDA * eye(len(g)), g), 1e-9)


def test_newtons_step_is_that_of_the_whole_objectives_hessian():
    case = make_case("log_sigma", count=6, hidden=(2,))
    H = -oracles.hessian(lambda theta: penalised(case, theta), case.theta)
    shift = float(-torch.linalg.eigvalsh(H)[0]) + 1.0  # so that it is positive definite
    d, _ = moved(case, updating(case, Hessian(), Dense("refuse"), shift))
    assert close(d, torch.linalg.solve(H + shift * eye(len(d)), gradient(case)), 1e-8)


def test_measured_and_predicted_improvement_hold_the_term():
    case = make_case("value", hidden=())  # a quadratic objective, so that the model is exact
    update = updating(case, Hessian(), Dense("refuse"))
    tape = case.tape
    problem = Problem(case.network, case.head, update.objective, case.samples, tape, penalised(case, case.theta), L2)
    d = 0.1 * gradient(case)
    assert close(problem.trial(case.theta + d).objective, penalised(case, case.theta + d), 1e-12)
    curvature, _ = Hessian().bind({}, tape, case.head, case.samples, update.objective)
    rho = agreement(Hessian(), curvature, gradient(case), d, case.theta + d, problem, {})
    assert rho.item() == pytest.approx(1.0, rel=1e-9)


def test_a_whole_updates_improvement_holds_the_term():
    case = make_case("categorical")
    update = replace(updating(case, Fisher(None, 0), Dense("refuse")), step=Armijo(1.0, 0.5, 20, 1e-4))
    learner = Learner(update, Schedule(1, None, None))
    theta, state, outcome = learner.run(case.theta, learner.init(case.theta), case.samples, seeded(0), 1)
    gain = float(penalised(case, theta) - penalised(case, case.theta))
    assert float(outcome.last.scalars["step/improvement_measured"]) == pytest.approx(gain, rel=1e-9)
    found = learner.measure(theta, state, case.samples, case.theta)["step/improvement"]
    assert float(found) == pytest.approx(gain, rel=1e-9)


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="l2 must be a finite number, 0 or above; got -1"):
        replace(updating(make_case("value"), Euclidean(), Identity()), l2=-1)
