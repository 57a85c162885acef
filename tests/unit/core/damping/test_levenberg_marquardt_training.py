"""What an adaptive damping does to a training: when lambda is raised and lowered, and which minima are reached."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.network import Network
from rlopt.core.objectives.value import Value
from rlopt.core.samples import Samples
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_clip import KLClip
from tests.support import oracles
from tests.support.adapting import LINE_SEARCH, LM, SGD, STEPS, gauss_newton, updating, value_case
from tests.support.oracles import Case, bits, close, make_case


def test_a_good_model_lowers_lambda_and_a_bad_one_raises_it():
    linear = value_case(hidden=())  # the model is the objective itself
    update = updating(linear, GGN("clipped"), Dense("refuse"), LM, Fixed(1.0), Value())
    _, state, report = update(linear.theta, update.init(linear.theta), linear.samples)
    assert float(report.scalars["damping/agreement"]) == pytest.approx(1.0, rel=1e-9)
    assert state["damping"] == {"lambda": 0.1 * LM.factor_down}

    bent = Bent.case(torch.tensor([-1.5, 0.5], dtype=torch.float64))
    update = updating(bent, GGN("clipped"), Dense("refuse"), replace(LM, value=1e-6), Fixed(1.0), Value())
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
def test_a_rejected_step_raises_lambda_and_changes_nothing_else(step):
    case = make_case("categorical", weights="masked")
    update = updating(case, Fisher(2, 0), NowhereUphill(), LM, step)
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new, report = update(case.theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0 and theta is case.theta
    assert bits((case.theta, state)) == before
    assert new["damping"] == {"lambda": 0.1 * LM.factor_up}
    assert bits({**new, "damping": state["damping"]}) == bits(state)


def test_an_optimizer_step_out_of_the_domain_only_raises_lambda():
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
    theta, lambdas, failure = train(case, GGN("clipped"), Dense("refuse"), LM, step, 100)
    assert failure is None and close(theta, torch.ones(2, dtype=torch.float64), 1e-6)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (4.0, 9.0)])
def test_it_reaches_a_valleys_minimum_where_undamped_diverges(start):
    case = Bent.case(torch.tensor(start, dtype=torch.float64))
    theta = case.theta
    for _ in range(4):
        if theta.abs().max() > 1e4:  # so far out that rounding may make the matrix singular
            break
        here = replace(case, theta=theta)
        theta = theta + torch.linalg.solve(gauss_newton(here), oracles.gradient(here, "value"))
    assert theta.abs().max() > 1e4
    theta, lambdas, failure = train(
        case, GGN("clipped"), Dense("refuse"), replace(LM, value=1e-4), STEPS["armijo"], 100
    )
    assert failure is None and close(theta, torch.ones(2, dtype=torch.float64), 1e-6)
    assert max(lambdas[:10]) > 1e-4


def test_with_newtons_metric_it_leaves_a_singular_point():
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
