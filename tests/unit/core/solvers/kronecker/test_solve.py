"""The solve of damped Kronecker blocks, in eigenbases and by inverses, against the dense blocks."""

import pytest
import torch

from rlopt.core.solvers.kronecker import factors as kronecker
from rlopt.core.solvers.kronecker.solve import by_inverses, in_eigenbasis, invert
from tests.support.factors import LAMBDA, assembled, bind, dense_factors, every_head
from tests.support.oracles import close, eye, make_case, randn


def measured(case):
    shapes, values = kronecker.statistics(bind(case), kronecker.factors)
    return shapes, kronecker.average(kronecker.init(), shapes, values, 0.0)


@every_head
def test_in_the_eigenbasis_every_damped_block_is_inverted(head):
    case = make_case(head, weights="masked", count=9)
    shapes, state = measured(case)
    basis = kronecker.decompose(state, 1)["basis"]
    eigenvalues = [torch.outer(basis[name]["Dg"], basis[name]["Da"]) for name in shapes]
    solve = in_eigenbasis(shapes, basis, eigenvalues, [E + LAMBDA for E in eigenvalues], LAMBDA)
    M, g = assembled(case, [torch.kron(G, A) for A, G in dense_factors(case)]), randn(len(case.theta), seed=2)
    wanted = torch.linalg.solve(M + LAMBDA * eye(len(g)), g)
    found = solve(g)
    assert close(found.x, wanted, 1e-8)
    assert float(found.quadratic) == pytest.approx(float(wanted @ M @ wanted), rel=1e-7)
    assert found.residual < 1e-10 and found.damping == LAMBDA


@every_head
def test_inverses_are_those_of_the_damped_factors(head):
    case = make_case(head, weights="masked", count=9)
    shapes, state = measured(case)
    basis = invert(state["factors"], LAMBDA)
    for kept in basis["layers"].values():
        for side in "AG":
            damped = kept[side]["damped"]
            assert close(kept[side]["inverse"] @ damped, eye(len(damped)), 1e-8)
    found = by_inverses(shapes, basis)(randn(len(case.theta), seed=2))
    assert found.residual < 1e-10 and float(basis["used"]) == LAMBDA


def test_nothing_is_solved_into_nothing():
    case = make_case("categorical", count=9)
    shapes, state = measured(case)
    found = by_inverses(shapes, invert(state["factors"], LAMBDA))(torch.zeros(len(case.theta), dtype=torch.float64))
    assert (found.x == 0).all() and found.residual == 0 and found.quadratic == 0
