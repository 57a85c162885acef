"""The plain estimator: the update keeps nothing of it, and a checkpoint has no place for it."""

import torch

from rlopt.core.estimators.plain import Plain
from tests.support.estimating import make_update
from tests.support.oracles import make_case


def test_an_update_without_it_holds_no_state_of_it():
    case = make_case("categorical")
    assert not Plain.reduces and Plain().init() == {}
    assert "estimator" not in make_update(case, Plain()).init(case.theta)


def test_its_estimate_is_the_batchs_own_gradient():
    g = torch.ones(3)
    assert Plain().estimate({}, g, g, None).g is g
