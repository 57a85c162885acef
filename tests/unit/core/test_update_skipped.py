"""An update whose numbers are not finite changes nothing and says which of them it was."""

import math
import re
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from rlopt.core import heads
from rlopt.core.curvature import PullBack
from rlopt.core.damping.constant import Constant
from rlopt.core.network import Network
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.parts import PRODUCT
from rlopt.core.requirements import Requirements
from rlopt.core.solvers.dense import Dense
from tests.support.oracles import bits, make_case
from tests.support.updates import adam, cg, every_preset, make_preset, make_update, poisoned

BAD = [(where, math.nan) for where in ("advantages", "inputs", "theta", "weight", "actions")]

BAD += [("advantages", math.inf), ("advantages", -math.inf), ("weight", math.inf)]


@pytest.mark.parametrize(("where", "bad"), BAD)
@every_preset
def test_a_number_not_finite_changes_nothing_and_is_named(preset, where, bad):
    case = make_case("log_sigma")
    update = make_preset(case, preset)
    theta = case.theta.clone()
    theta, state, report = update(theta, update.init(theta), case.samples)
    assert report.failure is None

    bad_case = poisoned(replace(case, theta=theta), where, bad)
    before = bits((bad_case.theta, state))
    after, new_state, report = update(bad_case.theta, state, bad_case.samples)
    assert report.failure == "objective"
    assert after is bad_case.theta and new_state is state
    assert bits((after, new_state)) == before
    assert "step/accepted" not in report.scalars


@every_preset
def test_training_goes_on_as_if_a_skipped_step_had_not_been(preset):
    case = make_case("log_sigma")
    bad = poisoned(case, "advantages", math.nan).samples

    def run(batches):
        update = make_preset(case, preset)
        theta = case.theta.clone()
        state = update.init(theta)
        for batch in batches:
            theta, state, _ = update(theta, state, batch)
        return bits((theta, state))

    good = case.samples
    assert run([good, bad, good, good]) == run([good, good, good])


def test_the_gradient_is_named_when_the_objective_is_finite():
    module = nn.Linear(3, 2, dtype=torch.float64)
    case = make_case(heads.DiagonalGaussian(2), hidden=())
    case = replace(case, module=module, network=Network(module, 2))
    inputs = torch.full_like(case.samples.inputs, 1e308)
    theta = torch.zeros_like(case.theta)  # so that the outputs are 0 whatever the inputs
    advantages = torch.full_like(case.samples.advantages, 1e3)
    case = replace(case, theta=theta, samples=replace(case.samples, inputs=inputs, advantages=advantages))
    update = make_preset(case, "npg")
    state = update.init(theta)
    after, new_state, report = update(theta, state, case.samples)
    assert report.failure == "gradient"
    assert after is theta and new_state is state


class Broken:
    """A metric whose products are ``value``."""

    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT})
    requirements: ClassVar[Requirements] = Requirements()
    value = math.nan

    def init(self):
        return {}

    def bind(self, state, tape, head, samples, objective):
        return PullBack(tape, samples.share, lambda t: t * self.value), state


class Negative(Broken):
    value = -1e9


@pytest.mark.parametrize(
    ("metric", "solver", "says"),
    [
        (Broken(), cg(5, 0.0), "^direction$"),
        (Broken(), Dense("refuse"), "not finite"),
        (Negative(), Dense("refuse"), "Cholesky factorisation failed"),
    ],
)
def test_a_direction_not_found_changes_nothing_and_says_why(metric, solver, says):
    case = make_case("categorical")
    update = make_update(case, LogProb(0.0), metric, solver, Constant(1e-3), adam())
    state = update.init(case.theta)
    before = bits((case.theta, state))
    theta, new_state, report = update(case.theta, state, case.samples)
    assert report.failure and re.search(says, report.failure)
    assert theta is case.theta and new_state is state and bits((theta, state)) == before


def test_the_objective_is_named_before_the_failed_factorisation():
    case = poisoned(make_case("categorical"), "theta", math.nan)
    update = make_preset(case, "npg_dense")
    _, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.failure == "objective"
