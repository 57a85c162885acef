"""Exact solutions: by conjugate gradient and by factorisation they are the same, and each metric's is found once."""

import pytest
import torch

from rlopt.config.catalogue import make_part
from rlopt.core.curvature import Given
from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from rlopt.inspection import inspect as module
from rlopt.inspection import reference
from rlopt.inspection.reference import find_reference, quick_products
from tests.support.oracles import make_case

P = 40
RNG = torch.Generator().manual_seed(3)
ROOT = torch.randn(P, P // 2, generator=RNG, dtype=torch.float64)
M, G = ROOT @ ROOT.t(), torch.randn(P, generator=RNG, dtype=torch.float64)
EYE = torch.eye(P, dtype=torch.float64)
SHIFTED = M - 0.5 * EYE  # indefinite: half of its eigenvalues are -0.5


@pytest.fixture
def large(monkeypatch):
    """Every network counts as large."""
    monkeypatch.setattr(reference, "_FACTORISED_UP_TO", 0)


def cosine(a, b) -> float:
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("damping", [1.0, 0.01])
def test_products_give_what_a_factorisation_gives(large, monkeypatch, damping):
    whole = find_reference(Given(M), G, damping, semidefinite=True, exact=True)
    with monkeypatch.context() as patched:
        patched.setattr(reference, "factorise", None)
        found = find_reference(Given(M), G, damping, semidefinite=True, exact=False)
    x = torch.linalg.solve(M + damping * EYE, G)
    assert torch.allclose(found.exact, x, rtol=0, atol=1e-5 * float(x.norm()))
    assert torch.allclose(whole.exact, x, rtol=1e-9)
    assert whole.eigenvalues == found.eigenvalues and len(found.eigenvalues) == P // 2


@pytest.mark.parametrize("exact", [False, True])
def test_an_indefinite_matrix_has_none(large, exact):
    found = find_reference(Given(SHIFTED), G, 0.1, semidefinite=False, exact=exact)
    assert found.exact is None and not found.left_out
    held = find_reference(Given(SHIFTED), G, 1.0, semidefinite=False, exact=exact)
    assert cosine(held.exact, torch.linalg.solve(SHIFTED + EYE, G)) == pytest.approx(1, abs=1e-9)


def test_what_products_do_not_reach_is_left_out_or_factorised(large, monkeypatch):
    monkeypatch.setattr(reference, "_ITERATIONS", 2)
    assert find_reference(Given(M), G, 0.01, semidefinite=True, exact=False, products=3).left_out
    monkeypatch.setattr(reference, "_FACTORISED_UP_TO", P)
    found = find_reference(Given(M), G, 0.01, semidefinite=True, exact=False, products=3)
    assert torch.allclose(found.exact, torch.linalg.solve(M + 0.01 * EYE, G), rtol=1e-9)


def test_no_damping_is_left_to_a_factorisation(large):
    positive = Given(M + EYE)
    assert find_reference(positive, G, 0.0, semidefinite=True, exact=False).left_out
    assert find_reference(positive, G, 0.0, semidefinite=True, exact=True).exact is not None
    assert find_reference(Given(M), G, 0.0, semidefinite=True, exact=True).exact is None  # singular


def test_spectra_get_fewer_products_where_these_are_dear():
    assert quick_products(4_610, 2_048) == quick_products(10, 10) == 100
    assert quick_products(27_618, 2_048) == 21
    assert quick_products(10**6, 10**5) == 20


@pytest.fixture
def update():
    case = make_case("categorical")
    parts = Surrogate(0.0), Fisher(None, 0), Identity(), Constant(0.0), Fixed(1.0)
    return case, Update(case.network, case.head, *parts)


DIAGONAL = make_part("solver", "diagonal")
SOLVERS = {"dense": Dense("refuse"), "diagonal": DIAGONAL, "other": DIAGONAL}


def directions(update, solvers) -> dict:
    case, update = update
    pairs = [(name, Fisher(None, 0), solvers) for name in ("a", "b")]
    found = module.inspect(update, case.theta, case.samples, pairs, 0.1, 0.01, lambda *_: None)
    return {(d.metric, d.solver): d for d in found.directions}


def test_the_exact_solution_is_found_once_a_metric(update, monkeypatch):
    calls = []
    monkeypatch.setattr(module, "find_reference", lambda *a, **k: calls.append(a) or find_reference(*a, **k))
    assert len(directions(update, SOLVERS)) == 6
    assert len(calls) == 2


def test_solvers_that_share_it_get_the_figures_they_get_alone(update):
    together = directions(update, SOLVERS)
    for name, solver in SOLVERS.items():
        for pair, alone in directions(update, {name: solver}).items():
            for field in ("cosine_gradient", "cosine_exact", "improvement", "kl", "alpha", "residual"):
                assert getattr(alone, field) == getattr(together[pair], field) is not None
    assert together["a", "dense"].cosine_exact == pytest.approx(1, abs=1e-9)
    assert together["a", "diagonal"].cosine_exact < 1 - 1e-6
