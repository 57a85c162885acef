"""Objective and gradient by arrays are those by tensors."""

from dataclasses import replace

import pytest

from rlopt.core.objectives.value import Value
from rlopt.core.update import value_and_gradient
from tests.support.oracles import close, make_case
from tests.support.updates import OBJECTIVES


@pytest.mark.parametrize("weights", ["uniform", "masked"])
@pytest.mark.parametrize("entropy", [0.0, 0.3])
@pytest.mark.parametrize("objective", ["log_prob", "surrogate", "clipped", "spo", "value"])
@pytest.mark.parametrize("head", ["log_sigma", "sigma", "log_sigma_per_state"])
def test_arrays_give_the_gradient_of_tensors(head, objective, entropy, weights):
    case = make_case("value" if objective == "value" else head, weights=weights, moved=0.1)
    part = Value() if objective == "value" else replace(OBJECTIVES[objective], entropy=entropy)
    value, g = value_and_gradient(case.tape, case.head, part, case.samples)
    arrays = case.samples.arrays
    tape = case.network.tape(case.theta, arrays.inputs)
    found, h = value_and_gradient(tape, case.head, part, arrays)
    assert abs(found - float(value)) < 1e-12 and close(h, g, 1e-12)
