"""Muon's direction, and those of the other solvers that learn from gradients, with every step rule."""

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.learner import Learner, Schedule
from rlopt.core.metrics.gradient_statistics import GradientStatistics
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.kron import Kron
from rlopt.core.solvers.muon import Muon
from rlopt.core.solvers.shampoo import Shampoo
from rlopt.core.solvers.soap import SOAP
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from rlopt.core.update import Update
from tests.support import oracles
from tests.support.oracles import close, make_case
from tests.support.stepping import CONSTANT
from tests.support.updates import Watching

SOLVERS = {
    "shampoo": Shampoo(0.9, -0.25, 1, 100),
    "soap": SOAP(0.5, 0.9, 0.9, 1, 100),
    "muon": Muon(0.5, True, 5, (3.4445, -4.7750, 2.0315), "rms", "all", (0.5, 0.9)),
    "kron": Kron(0.1, 0.5, 100),
}
RADIUS = 0.01
STEPS = {
    "fixed": Fixed(1e-3),
    "trust_region": TrustRegion(1e-3, 1.0),
    "kl_clip": KLClip(1e3, RADIUS, 0.0),
    "kl_clip with momentum": KLClip(1e3, RADIUS, 0.5),
    "kl_line_search": KLLineSearch(RADIUS, 0.5, 20, 0.0, 1e3),
    "armijo": Armijo(0.1, 0.5, 20, 1e-4),
    "optimizer": Optimizer({"_target_": "torch.optim.SGD", "lr": 1e-3}, CONSTANT, None),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_step_rule_moves_along_the_direction(solver, step):
    """Some updates on one batch raise the objective; a step that is measured stays within its radius."""
    case = make_case("log_sigma", weights="masked", count=40)
    parts = GradientStatistics(), SOLVERS[solver], Constant(1e-8), STEPS[step]
    update = Update(case.network, case.head, Surrogate(0.0), *parts)
    theta, state = case.theta.clone(), update.init(case.theta)
    before, scalars = oracles.objective(case, "surrogate", theta), []
    for _ in range(4):
        theta, state, report = update(theta, state, case.samples)
        assert report.failure is None and report.scalars["step/accepted"] == 1
        scalars.append(report.scalars)
    assert oracles.objective(case, "surrogate", theta) > before
    if step == "kl_line_search":
        assert all(float(s["step/kl_measured"]) <= RADIUS for s in scalars)
    if step.startswith("kl_"):
        assert all(float(s["step/kl_predicted"]) == pytest.approx(RADIUS, rel=1e-9) for s in scalars)
    if step == "trust_region":
        predicted = [float(s["step/kl_predicted"]) for s in scalars]
        assert all(kl == pytest.approx(1e-3, rel=1e-9) or float(s["step/size"]) == 1.0
                   for kl, s in zip(predicted, scalars, strict=True))  # fmt: skip


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_rejected_step_teaches_the_solver_nothing(solver):
    case = make_case("log_sigma", weights="masked", count=40)
    parts = GradientStatistics(), SOLVERS[solver], Constant(1e-8), Watching()  # which takes no step
    update = Update(case.network, case.head, Surrogate(0.0), *parts)
    state = update.init(case.theta)
    theta, after, report = update(case.theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0
    assert theta is case.theta and after["solver"] == SOLVERS[solver].init()


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_a_frozen_parameter_has_learned_does_not_move_it(solver):
    case = make_case("log_sigma", weights="masked", count=40)
    case.network.freeze(["0.*"])
    update = Update(
        case.network, case.head, Surrogate(0.0), GradientStatistics(), SOLVERS[solver], Constant(1e-8), STEPS["kl_clip"]
    )
    theta, state, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.failure is None
    moved = theta != case.theta
    free = case.network.free > 0
    assert not moved[~free].any() and moved[free].any() and torch.isfinite(theta).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_arrays_and_tensors_lead_to_the_same_theta(solver, monkeypatch):
    case = make_case("log_sigma", weights="masked", count=40)
    parts = GradientStatistics(), SOLVERS[solver], Constant(1e-8), STEPS["kl_clip"]
    update = Update(case.network, case.head, Surrogate(0.0), *parts)
    assert update.takes_arrays(case.theta, case.samples, 20)

    def trained() -> torch.Tensor:
        learner, generator = Learner(update, Schedule(2, 10, None)), torch.Generator().manual_seed(0)
        theta, _, result = learner.run(case.theta.clone(), learner.init(case.theta), case.samples, generator, 2)
        assert result.steps == 8 and result.skipped == 0
        return theta

    by_arrays = trained()
    monkeypatch.setattr(Update, "takes_arrays", lambda *_: False)
    assert close(by_arrays, trained(), 1e-9)
