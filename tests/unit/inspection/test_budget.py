"""What an inspection leaves out for the time it would take, and what it says of that."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from rlopt.config.catalogue import make_part
from rlopt.core.curvature import Given
from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import Requirements
from rlopt.core.requirements import Work
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from rlopt.inspection import budget
from rlopt.inspection.budget import Clock, Limits
from rlopt.inspection.inspect import Inspection, inspect
from tests.support.oracles import make_case


@dataclass(frozen=True)
class Slow(Dense):
    """A solver that says it takes long, and fails the test where it is run all the same."""

    requirements: ClassVar[Requirements] = Requirements(work=lambda curvature: Work(operations=1e13))

    def prepare(self, state, curvature, damping):
        raise AssertionError("this solver was to be left out")


def inspected(metrics: dict, solvers: dict, limits: Limits) -> Inspection:
    case = make_case("categorical")
    update = Update(
        case.network, case.head, Surrogate(0.0), Fisher(None, 0), Identity(), Constant(0.0), Fixed(1.0)
    )  # fmt: skip
    pairs = [(name, metric, solvers) for name, metric in metrics.items()]
    return inspect(update, case.theta, case.samples, pairs, 0.1, 0.01, lambda *_: None, limits)


def test_a_slow_pair_is_left_out_and_the_others_are_not():
    found = inspected({"fisher": Fisher(None, 0)}, {"slow": Slow("refuse"), "dense": Dense("refuse")}, Limits(60.0))
    assert [(d.solver, d.failure) for d in found.directions] == [("dense", None)]
    assert [(pair.metric, pair.solver) for pair in found.left_out] == [("fisher", "slow")]
    assert found.left_out[0].seconds == pytest.approx(1e13 / budget._RATE)
    assert found.done == 2 and found.plain()["left_out"][0]["solver"] == "slow"


def test_without_limits_everything_is_inspected():
    with pytest.raises(AssertionError, match="left out"):
        inspected({"fisher": Fisher(None, 0)}, {"slow": Slow("refuse")}, Limits())


def test_a_metric_whose_matrix_is_too_large_is_left_out(monkeypatch):
    monkeypatch.setattr(budget, "_MATRIX_UP_TO", 5)
    metrics = {"full": GradientHistory(None, "full"), "fisher": Fisher(None, 0)}
    solvers = {"dense": Dense("refuse")}
    found = inspected(metrics, solvers, Limits(60.0))
    assert [(pair.metric, pair.solver, pair.seconds) for pair in found.left_out] == [("full", "dense", None)]
    assert [s.metric for s in found.spectra] == ["fisher"]
    assert not inspected(metrics, solvers, Limits()).left_out


@pytest.mark.parametrize("form", ["full", "diagonal"])
def test_a_full_matrix_of_past_gradients_is_told(form):
    assert GradientHistory(None, form).requirements.holds_matrix == (form == "full")
    entries = torch.eye(200) if form == "full" else torch.ones(200)
    work = make_part("solver", "power").requirements.work(Given(entries))
    assert (work.operations > 0) == (form == "full")


def test_more_work_is_estimated_to_take_longer():
    clock = Clock(Given(torch.eye(50)), torch.ones(50))
    assert clock.estimate(Identity()) == 0.0
    assert 0 < clock.estimate(Dense("refuse")) < clock.estimate(Dense("absolute"))


def test_a_gram_matrix_that_is_refused_is_no_work():
    case = make_case("categorical")
    curvature, _ = Fisher(None, 0).bind({}, case.network.tape(case.theta, case.samples.inputs), case.head,
                                        case.samples, Surrogate(0.0))  # fmt: skip
    rows = len(curvature.factors()) * len(case.samples)
    gram = make_part("solver", "gram")
    assert gram.requirements.work(curvature).operations > rows**3 / 3
    assert type(gram)(rows - 1, "network").requirements.work(curvature) == Work()


def test_blocks_are_estimated_from_the_sizes_of_layers():
    case = make_case("categorical")
    curvature, _ = Fisher(None, 0).bind({}, case.network.tape(case.theta, case.samples.inputs), case.head,
                                        case.samples, Surrogate(0.0))  # fmt: skip
    weights = [shape for shape in case.network.layout.shapes if len(shape) == 2]
    work = make_part("solver", "block").requirements.work(curvature)
    assert work.operations == 2 * len(case.samples) * sum(J * C**2 for J, C in weights)
