"""SVRPG: v by its definition, the policy stays while a snapshot's batches are collected, nothing is half kept."""

import pytest
import torch

from rlopt.core.damping.constant import Constant
from rlopt.core.estimators.plain import Plain
from rlopt.core.estimators.svrpg import SVRPG
from rlopt.core.heads import Joint
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.objectives.value import Value
from rlopt.core.requirements import Incompatible
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support.estimating import RATE, TRACE, batches, make_update, steps
from tests.support.oracles import make_case, randn
from tests.support.updates import Watching
from tests.support.weighing import OBJECTIVE, plain_gradient, weighted_gradient

pytestmark = pytest.mark.usefixtures("double_precision")
KINDS = ["trajectory", "decision"]


@pytest.mark.parametrize("self_normalise", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", ["categorical", "log_sigma"])
def test_v_is_its_definition_by_autograd(head, kind, self_normalise):
    case = make_case(head)
    found = steps(case, SVRPG(2, 3, kind, 1.3, self_normalise), 5)
    snapshot = case.theta
    given = [at(snapshot if i < 2 else found[i].before) for i, at in enumerate(batches(case, 5))]
    mu = (plain_gradient(given[0], snapshot) + plain_gradient(given[1], snapshot)) / 2
    expected = [torch.zeros_like(mu), mu]
    for i in (2, 3):
        here = found[i].before
        old = weighted_gradient(given[i], snapshot, kind, 1.3, self_normalise, TRACE)
        expected.append(mu + plain_gradient(given[i], here) - old)
    for i, v in enumerate(expected):
        assert (found[i].after - found[i].before - RATE * v).abs().max() < 1e-10
    assert torch.equal(found[4].after, found[4].before), "after three steps the next snapshot's batches begin"
    assert torch.equal(found[4].state["estimator"]["theta"], found[3].after)


@pytest.mark.parametrize("estimator", [SVRPG(1, 1, "decision", None, True), Plain()])
def test_a_snapshot_at_theta_gives_the_plain_gradient(estimator):
    case = make_case("log_sigma")
    found, plain = steps(case, estimator, 4), steps(case, Plain(), 4)
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one.after, other.after)


def test_a_second_batch_at_the_snapshot_leaves_its_gradient():
    """g(theta) - g_w(theta_s) is 0 where theta has not moved: v = mu, whatever the batch."""
    case = make_case("categorical")
    update = make_update(case, SVRPG(1, 9, "decision", None, True))
    first, second = (at(case.theta).samples for at in batches(case, 2))
    moved, state, _ = update(case.theta, update.init(case.theta), first)
    again, _, _ = update(case.theta, state, second)
    assert (moved - again).abs().max() < 1e-12 and not torch.equal(moved, case.theta)


def test_while_batches_are_collected_only_the_estimator_learns():
    case = make_case("log_sigma")
    update = make_update(case, SVRPG(3, 2, "decision", None, True))
    state = update.init(case.theta)
    moved, kept, report = update(case.theta, state, case.samples)
    assert moved is case.theta and report.failure is None
    assert report.read()["step/accepted"] == 0 == report.read()["step/size"]
    assert {name for name in kept if kept[name] is not state[name]} == {"estimator"}
    assert kept["estimator"]["batches"] == 1 and kept["estimator"]["steps"] == 0


@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_bad_batch_leaves_everything_as_it_was(before):
    case = make_case("log_sigma")
    update = make_update(case, SVRPG(2, 3, "decision", None, True))
    theta, state = case.theta, update.init(case.theta)
    for at in batches(case, before):
        theta, state, _ = update(theta, state, at(theta).samples)
    bad = case.samples.replacing(advantages=case.samples.advantages.index_fill(0, torch.tensor([3]), torch.nan))
    same, kept, report = update(theta, state, bad)
    assert same is theta and kept is state and report.failure == "objective"


def test_weights_that_overflow_are_a_failure_and_change_nothing():
    case = make_case("log_sigma")
    update = make_update(case, SVRPG(1, 3, "trajectory", None, False))
    theta, state, _ = update(case.theta, update.init(case.theta), case.samples)
    far = case.samples.replacing(old_log_prob=case.samples.old_log_prob - 300)
    same, kept, report = update(theta, state, far)
    assert same is theta and kept is state and report.failure == "gradient"


@pytest.mark.parametrize("before", [1, 2])
def test_a_rejected_step_leaves_the_estimator_as_it_was(before):
    case = make_case("log_sigma")
    update = make_update(case, SVRPG(2, 3, "decision", None, True))
    theta, state = case.theta, update.init(case.theta)
    for at in batches(case, before):
        theta, state, _ = update(theta, state, at(theta).samples)
    far = make_update(case, SVRPG(2, 3, "decision", None, True), step=Watching())
    same, kept, report = far(theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0 and torch.equal(same, theta)
    assert kept["estimator"] is state["estimator"]


def test_a_value_is_refused():
    case = make_case("value")
    parts = (Euclidean(), Identity(), Constant(0.0), Fixed(0.1))
    for head, objective in ((case.head, Value()), (Joint(make_case("categorical").head, 1.0), OBJECTIVE)):
        with pytest.raises(Incompatible, match="a value takes none"):
            Update(case.network, head, objective, *parts, estimator=SVRPG(1, 1, "decision", None, True))


@pytest.mark.parametrize(
    "options, named",
    [((0, 1, "decision", None, True), "batches"), ((1, 0, "decision", None, True), "period"),
     ((1, 1, "step", None, True), "weights"), ((1, 1, "decision", -1.0, True), "clip")],
)  # fmt: skip
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        SVRPG(*options)


def test_l2_is_taken_exactly_and_not_estimated():
    case = make_case("categorical")
    estimator = SVRPG(1, 5, "decision", None, True)
    without, with_l2 = (make_update(case, estimator, l2=l2) for l2 in (0.0, 0.7))
    first, second = (at(case.theta).samples for at in batches(case, 2))
    theta = case.theta + 0.1 * randn(len(case.theta), seed=8)
    _, state, _ = without(case.theta, without.init(case.theta), first)
    plain, reduced = (update(theta, state, second)[0] for update in (without, with_l2))
    assert (reduced - plain + RATE * 0.7 * theta).abs().max() < 1e-12
