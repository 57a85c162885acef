"""What l2 adds to g, and to M where it is a Hessian, is in what is inspected too."""

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.power import Power
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from rlopt.inspection.inspect import inspect
from tests.support import oracles
from tests.support.oracles import eye, make_case

L2, LAMBDA, RADIUS = 3.0, 0.5, 0.01


def penalised(case, theta):
    return oracles.objective(case, "log_prob", theta) - L2 / 2 * theta @ theta


@pytest.mark.parametrize("name", ["hessian", "ggn", "fisher", "history"])
def test_every_direction_is_that_of_the_update(name):
    case = make_case("categorical", hidden=())  # linear in theta: the generalised Gauss-Newton matrix is the Hessian
    P = len(case.theta)
    theta = case.theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(penalised(case, theta), theta)
    H = -oracles.hessian(lambda t: penalised(case, t), case.theta)
    F = oracles.fisher(case)
    metric, solver, damping, M = {
        "hessian": (Hessian(), Dense("refuse"), LAMBDA, H),
        "ggn": (GGN("signed"), Dense("refuse"), LAMBDA, H),
        "fisher": (Fisher(None, 0), Dense("refuse"), LAMBDA, F),
        "history": (GradientHistory(None, "full"), Power(-0.5), 0.0, eye(P)),  # the first step is along g
    }[name]
    x = torch.linalg.solve(M + damping * eye(P), g)
    x = x * (2 * RADIUS / (x @ F @ x)) ** 0.5
    update = Update(case.network, case.head, LogProb(0.0), Euclidean(), Identity(), Constant(0.0), Fixed(1.0), l2=L2)
    found = inspect(update, case.theta, case.samples, [("m", metric, {"s": solver})], damping, RADIUS, lambda *_: None)
    (direction,) = found.directions
    assert direction.failure is None
    gain = penalised(case, case.theta + x) - penalised(case, case.theta)
    assert direction.improvement == pytest.approx(float(gain), rel=1e-8)
    assert direction.damping == pytest.approx(0.0 if name == "history" else LAMBDA, rel=1e-12)
    if name != "history":
        assert direction.cosine_exact == pytest.approx(1, abs=1e-10)
