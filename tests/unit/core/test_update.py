"""One update against its equation: steps accepted and rejected."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.samples import Samples
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from tests.support import oracles
from tests.support.oracles import POLICIES, TAPES, bits, close, eye, fisher, make_case, mean_kl
from tests.support.updates import (
    LINEAR,
    OBJECTIVES,
    Counting,
    cg,
    direction,
    every_preset,
    line_search,
    make_preset,
    make_update,
    used,
)


class Downhill(Identity):
    """The direction of steepest descent, which no search can accept."""

    def prepare(self, state, curvature, damping):
        solve, state = Identity.prepare(self, state, curvature, damping)
        return lambda g: replace(solve(g), x=-g), state


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", POLICIES)
@pytest.mark.parametrize("solver", [cg(200, 1e-12), Dense("refuse")], ids=["cg", "dense"])
def test_one_update_is_the_equation(solver, head, tape):
    case = make_case(head, tape, "masked", count=30)
    g, F = oracles.gradient(case, "surrogate"), fisher(case)
    x = torch.linalg.solve(F + 1e-2 * eye(len(g)), g)
    assert close(direction(case, OBJECTIVES["surrogate"], Fisher(None, 0), solver, 1e-2), x, 1e-8)


@every_preset
def test_a_taken_step_reports_and_moves_every_state(preset):
    case = make_case("log_sigma", weights="masked")
    update = make_preset(case, preset)
    state = update.init(case.theta)
    assert used(state) == (0, 0, 0)
    before = case.theta.clone()
    theta, state, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 1
    assert used(state) == (1, 1, 1)
    assert not torch.equal(theta, before)
    name = {"vpg": "log_prob", "ppo": "clipped"}.get(preset, "surrogate")
    options = {"entropy": 0.01} if preset in ("vpg", "ppo") else {}
    at_start = replace(case, theta=before)
    g = oracles.gradient(at_start, name, **options)
    assert float(report.scalars["objective/value"]) == pytest.approx(
        float(oracles.objective(at_start, name, before, **options)), rel=1e-10
    )
    assert float(report.scalars["objective/gradient_norm"]) == pytest.approx(float(g.norm()), rel=1e-10)
    if preset in ("vpg", "ppo"):  # no system was solved
        assert not any(name.startswith(("solver/", "damping/")) for name in report.read())
    else:
        assert report.scalars["damping/value"] == update.damping.part.value
        assert (report.scalars["solver/iterations"] > 0) == (preset in ("npg", "trpo"))
        assert (report.read()["solver/residual"] > 0) == (preset in ("npg", "trpo", "npg_dense"))
    assert report.scalars["step/size"] > 0


@pytest.mark.parametrize("preset", ["npg", "npg_dense", "trpo"])
def test_an_update_changes_neither_its_samples_nor_given_theta(preset):
    case = make_case("sigma", weights="masked")
    update = make_preset(case, preset)
    before = bits((case.theta, vars(case.samples)))
    update(case.theta, update.init(case.theta), case.samples)
    given = {field.name: getattr(case.samples, field.name) for field in fields(Samples)}
    assert bits((case.theta, given)) == before


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    head=st.sampled_from(POLICIES),
    tape=st.sampled_from(TAPES),
    weights=st.sampled_from(oracles.WEIGHTS),
    count=st.integers(7, 40),
    radius=st.floats(1e-5, 3.0),
    accept_ratio=st.sampled_from([0.0, 0.3, 0.9]),
    spread=st.floats(1e-3, 1e3),
    moved=st.sampled_from([0.0, 0.3]),
    natural=st.booleans(),
)
def test_a_line_search_keeps_kl_and_improves_or_changes_nothing(
    seed, head, tape, weights, count, radius, accept_ratio, spread, moved, natural
):
    case = make_case(head, tape, weights, count=count, seed=seed, moved=moved)
    case = replace(case, samples=replace(case.samples, advantages=spread * case.samples.advantages))
    geometry = (Fisher(None, 0), cg(10, 1e-10)) if natural else (IdentityMetric(), Identity())
    metric, solver = map(Counting, geometry)
    step = line_search(radius, accept_ratio)
    update = make_update(case, Surrogate(0.0), metric, solver, Constant(1e-4), step)
    state = update.init(case.theta)
    before = bits((case.theta, state))

    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure is None
    assert bits((case.theta, state)) == before
    if report.scalars["step/accepted"]:
        assert mean_kl(case, theta) <= radius * (1 + 1e-9)
        start = oracles.objective(case, "surrogate", case.theta)
        improvement = oracles.objective(case, "surrogate", theta) - start
        assert improvement > -1e-12 * spread
        predicted = (theta - case.theta) @ oracles.gradient(case, "surrogate")
        assert improvement >= accept_ratio * predicted - 1e-9 * (abs(predicted) + spread * 1e-3)
    else:
        assert theta is case.theta
        assert bits(new_state) == bits(state)


@pytest.mark.parametrize("head", POLICIES)
def test_natural_line_searches_are_usually_accepted(head):
    accepted = 0
    for seed in range(6):
        case = make_case(head, weights="masked", seed=seed)
        update = make_preset(case, "trpo")
        _, _, report = update(case.theta, update.init(case.theta), case.samples)
        accepted += report.scalars["step/accepted"]
    assert accepted >= 5


@pytest.mark.parametrize(
    ("solver", "step"),
    [
        (Downhill(), line_search()),
        (Identity(), line_search(radius=1e-40)),
        (Identity(), KLLineSearch(1e4, shrink=0.9, backtracks=2, accept_ratio=0.999, largest=1e6)),
    ],
    ids=["downhill", "tiny_radius", "too_much_asked"],
)
def test_a_rejected_line_search_leaves_theta_and_every_state(solver, step):
    case = make_case("log_sigma", weights="masked")
    update = make_update(
        case, Surrogate(0.0), Counting(IdentityMetric()), Counting(solver), Counting(Constant(0.1)), step
    )
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 0
    assert theta is case.theta and bits((theta, state)) == before
    for part in ("metric", "solver", "step"):
        assert bits(new_state[part]) == bits(state[part])
    assert used(new_state) == (0, 0, 1)  # damping alone may learn from a rejection


SGD = Optimizer({"_target_": "torch.optim.SGD", "lr": 1e3}, LINEAR, max_norm=None)


@pytest.mark.parametrize("step", [Fixed(1e3), TrustRegion(1e3, 1e3), SGD], ids=["fixed", "trust_region", "sgd"])
def test_a_step_out_of_the_domain_leaves_theta_and_every_state(step):
    case = make_case("sigma", weights="masked")
    sign = -oracles.gradient(case, "log_prob")[-1].sign()  # so that the last sigma falls
    case = replace(case, samples=replace(case.samples, advantages=sign * case.samples.advantages))
    update = make_update(
        case, LogProb(0.0), Counting(IdentityMetric()), Counting(Identity()), Counting(Constant(0.0)), step
    )
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure is None and report.scalars["step/accepted"] == 0
    assert theta is case.theta and bits((theta, state)) == before
    assert bits(new_state["step"]) == bits(state["step"])
    assert used(new_state) == (0, 0, 1)
