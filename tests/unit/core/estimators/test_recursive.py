"""The recursive estimator: v by its definition, its limits, and where it begins anew."""

import pytest
import torch

from rlopt.core.estimators.plain import Plain
from rlopt.core.estimators.recursive import Recursive
from tests.support.estimating import RATE, TRACE, batches, make_update, steps
from tests.support.oracles import make_case
from tests.support.updates import Watching
from tests.support.weighing import plain_gradient, weighted_gradient

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("self_normalise", [False, True])
@pytest.mark.parametrize("kind", ["trajectory", "decision"])
@pytest.mark.parametrize("fresh", [0.0, 0.3])
@pytest.mark.parametrize("head", ["categorical", "log_sigma"])
def test_v_is_its_definition_by_autograd(head, fresh, kind, self_normalise):
    case = make_case(head)
    found = steps(case, Recursive(fresh, 1, None, kind, 1.3, self_normalise), 4)
    v = None
    for i, (at, (here, moved, state)) in enumerate(zip(batches(case, 4), found, strict=True)):
        g = plain_gradient(at(here), here)
        if v is not None:
            old = weighted_gradient(at(here), found[i - 1].before, kind, 1.3, self_normalise, TRACE)
            g = g + (1 - fresh) * (v - old)
        v = g
        assert (moved - here - RATE * v).abs().max() < 1e-10
        assert torch.equal(state["estimator"]["theta"], here)


def test_with_nothing_but_the_fresh_gradient_it_is_plain():
    case = make_case("log_sigma")
    found, plain = steps(case, Recursive(1.0, 1, None, "decision", None, True), 4), steps(case, Plain(), 4)
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one.after, other.after)


def test_it_begins_anew_with_the_mean_of_its_batches():
    """Two batches, a step along their mean, one corrected step, and the same again."""
    case = make_case("categorical")
    found = steps(case, Recursive(0.0, 2, 2, "decision", None, True), 6)
    moves = [not torch.equal(done.before, done.after) for done in found]
    assert moves == [False, True, True, False, True, True]
    here, given = found[3].before, batches(case, 6)
    mean = (plain_gradient(given[3](here), here) + plain_gradient(given[4](here), here)) / 2
    assert (found[4].after - here - RATE * mean).abs().max() < 1e-10


def test_a_rejected_step_leaves_the_estimator_as_it_was():
    case = make_case("log_sigma")
    estimator = Recursive(0.2, 1, None, "decision", None, True)
    near, far = make_update(case, estimator), make_update(case, estimator, step=Watching())
    theta, state, _ = near(case.theta, near.init(case.theta), case.samples)
    same, kept, report = far(theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0 and torch.equal(same, theta)
    assert kept["estimator"] is state["estimator"]


@pytest.mark.parametrize(
    "options, named",
    [((1.1, 1, None), "fresh"), ((0.5, 0, None), "batches"), ((0.5, 1, 0), "period")],
)
def test_options_out_of_range_are_named(options, named):
    with pytest.raises(ValueError, match=f"^{named} must be"):
        Recursive(*options, "decision", None, True)
