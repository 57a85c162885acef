"""The waste of an update against dense algebra: of the natural gradient none, of what is F-orthogonal to it all."""

import pytest
import torch

from rlopt.core.curvature import PullBack
from rlopt.core.waste import waste
from tests.support import oracles
from tests.support.oracles import close, make_case, randn

EXACT = {"products": 500, "tolerance": 1e-13}


@pytest.fixture(params=["log_sigma", "categorical"])
def given(request):
    """F as a curvature and as a matrix, g, and n = F^+ g; F is singular."""
    case = make_case(request.param, weights="masked", count=40, hidden=(4,))
    fisher = PullBack(case.tape, case.samples.share, case.head.fisher_product(case.tape.outputs))
    F, g = oracles.fisher(case), oracles.gradient(case, "surrogate")
    return fisher, F, g, torch.linalg.pinv(F, rtol=1e-12, hermitian=True) @ g


def length(F: torch.Tensor, v: torch.Tensor) -> float:
    return float((v @ F @ v).sqrt())


@pytest.mark.parametrize("scale", [1e-3, 1.0, -2.0])
def test_the_natural_gradient_has_none(given, scale):
    fisher, F, g, n = given
    found = waste(fisher, g, scale * n, **EXACT)
    assert float(found["step/waste"]) < 1e-8
    assert float(found["step/signal"]) == pytest.approx(scale * length(F, n), rel=1e-8)
    assert float(found["step/waste_residual"]) < 1e-8


def test_a_step_that_is_orthogonal_to_it_is_all_waste(given):
    fisher, F, g, n = given
    v = randn(len(g), seed=3)
    v = v - (v @ F @ n) / (n @ F @ n) * n
    found = waste(fisher, g, v, **EXACT)
    assert float(found["step/waste"]) == pytest.approx(1, abs=1e-8)
    assert abs(float(found["step/signal"])) < 1e-6 * length(F, v)
    assert abs(float(v @ g)) < 1e-6 * float(v.norm() * g.norm())  # it gains nothing to first order


def test_signal_and_waste_add_up_to_the_kl_divergence(given):
    fisher, F, g, n = given
    v = randn(len(g), seed=3)
    found = waste(fisher, g, v, **EXACT)
    cosine = float(v @ F @ n) / (length(F, v) * length(F, n))
    assert float(found["step/waste"]) == pytest.approx(1 - cosine**2, abs=1e-9)
    spent = float(v @ F @ v)
    assert float(found["step/signal"]) ** 2 + float(found["step/waste"]) * spent == pytest.approx(spent, rel=1e-9)


def test_what_cg_did_not_find_is_told(given):
    fisher, F, g, _ = given
    found = waste(fisher, g, g, products=2)
    assert float(found["step/waste_residual"]) > 1e-3
    cg = torch.linalg.lstsq(torch.stack([g, F @ g], 1).T @ F @ torch.stack([g, F @ g], 1),
                            torch.stack([g, F @ g], 1).T @ g[:, None]).solution  # fmt: skip
    n = torch.stack([g, F @ g], 1) @ cg[:, 0]
    assert close(found["step/waste"], 1 - (g @ F @ n) ** 2 / ((n @ F @ n) * (g @ F @ g)), 1e-9)


def test_a_policy_that_did_not_move_has_none_to_measure(given):
    fisher, _, g, _ = given
    assert waste(fisher, g, torch.zeros_like(g), 10) == {}
    assert waste(fisher, torch.zeros_like(g), g, 10) == {}
