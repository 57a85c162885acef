"""A history of gradients: those that were stepped along, what l2 takes from them included."""

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.power import Power
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support import oracles
from tests.support.oracles import close, make_case

L2, RATE = 0.1, 0.01


def test_the_lambda_within_a_power_is_reported():
    case = make_case("log_sigma", weights="masked")
    parts = GradientHistory(None, "full"), Power(-0.5), Constant(0.3), Fixed(RATE)
    update = Update(case.network, case.head, Surrogate(0.0), *parts)
    _, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.scalars["damping/value"] == 0.3


@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("form", ["full", "diagonal"])
def test_its_gradients_are_the_updates_own(form, decay):
    case = make_case("log_sigma", weights="masked")
    metric = GradientHistory(decay, form)
    update = Update(case.network, case.head, Surrogate(0.0), metric, Power(-0.5), Constant(0.0), Fixed(RATE), l2=L2)
    theta, state, past = case.theta, update.init(case.theta), []
    for _ in range(3):
        leaf = theta.clone().requires_grad_()
        value = oracles.objective(case, "surrogate", leaf) - L2 / 2 * leaf @ leaf
        (g,) = torch.autograd.grad(value, leaf)
        past.append(g)
        ages = torch.arange(len(past) - 1, -1, -1, dtype=torch.float64)
        weight = torch.ones_like(ages) if decay is None else decay**ages * (1 - decay) / (1 - decay ** len(past))
        G = torch.stack(past) * weight.sqrt()[:, None]
        if form == "diagonal":
            x = g / (G**2).sum(0).sqrt()
        else:  # (G^T G)^(-1/2) on the span of the gradients, by G's singular values
            _, s, Vh = torch.linalg.svd(G, full_matrices=False)
            x = Vh.T @ ((Vh @ g) / s)
        moved, state, report = update(theta, state, case.samples)
        assert report.failure is None
        assert close(moved - theta, RATE * x, 1e-7)
        theta = moved
