import math
from functools import partial

import pytest
import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Euclidean
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense, factorise
from rlopt.core.solvers.identity import Identity
from tests.support.oracles import HEADS, TAPES, close, eye, fisher, make_case, randn

cg = partial(CG, preconditioner=None, start="cold", decay=0.0)
LAMBDA = 1e-2


class Matrix:
    """A curvature that is a given symmetric matrix, and counts its products."""

    def __init__(self, matrix: Tensor):
        self.matrix, self.size, self.products = matrix, len(matrix), 0

    def product(self, v: Tensor) -> Tensor:
        self.products += 1
        return self.matrix @ v

    def dense(self) -> Tensor:
        return self.matrix


def solve(solver, curvature, g: Tensor, damping: float = 0.0):
    apply, state = solver.prepare(solver.init(), curvature, damping)
    assert state == solver.init()
    return apply(g)


def rotated(eigenvalues: list[float], seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues, and a basis at random."""
    Q, _ = torch.linalg.qr(randn(len(eigenvalues), len(eigenvalues), seed=seed))
    return Q @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ Q.T


def textbook_cg(A: Tensor, g: Tensor, iterations: int) -> Tensor:
    """The minimiser of x^T A x / 2 - g^T x over span(g, A g, ...), found in that space directly."""
    krylov = [g / g.norm()]
    for _ in range(iterations - 1):
        q = A @ krylov[-1]
        for _ in range(2):
            q = q - torch.stack(krylov, 1) @ (torch.stack(krylov) @ q)
        krylov.append(q / q.norm())
    V = torch.stack(krylov, 1)
    return V @ torch.linalg.solve(V.T @ A @ V, V.T @ g)


def assert_reports_are_true(solution, M: Tensor, g: Tensor):
    x, used = solution.x, solution.damping
    assert float(solution.residual) == pytest.approx(
        float((g - M @ x - used * x).norm() / g.norm()), rel=1e-6, abs=1e-13
    )
    assert float(solution.quadratic) == pytest.approx(float(x @ M @ x), rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", HEADS)
def test_cg_and_dense_solve_the_oracles_system(head, tape):
    case = make_case(head, tape, "masked", count=30)
    F, g = fisher(case), randn(len(case.theta), seed=7)
    curvature, _ = Fisher(None, 0).bind({}, case.tape, case.head, case.samples, None)
    truth = torch.linalg.solve(F + LAMBDA * eye(len(g)), g)
    by_cg = solve(cg(iterations=len(g) + 20, tolerance=1e-12), curvature, g, LAMBDA)
    by_dense = solve(Dense("refuse"), curvature, g, LAMBDA)
    assert close(by_cg.x, truth, 1e-9)
    assert close(by_dense.x, truth, 1e-9)
    for solution in (by_cg, by_dense):
        assert_reports_are_true(solution, F, g)
        assert solution.residual < 1e-10 and solution.damping == LAMBDA
    assert not by_cg.scalars["solver/negative_curvature"]


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_cg_is_the_best_point_of_the_krylov_space(iterations):
    M, g = rotated([0.1, 0.5, 1.0, 2.0, 7.0, 30.0]), randn(6, seed=1)
    curvature = Matrix(M)
    solution = solve(cg(iterations, 0.0), curvature, g, LAMBDA)
    assert close(solution.x, textbook_cg(M + LAMBDA * eye(6), g, iterations), 1e-9)
    assert solution.iterations == iterations == curvature.products
    assert_reports_are_true(solution, M, g)


@pytest.mark.parametrize("tolerance", [0.5, 1e-2, 1e-6])
def test_cg_stops_at_the_first_residual_within_tolerance(tolerance):
    M, g = rotated([0.1, 0.5, 1.0, 2.0, 7.0, 30.0]), randn(6, seed=1)
    solution = solve(cg(50, tolerance), Matrix(M), g)
    needed = int(solution.iterations)
    assert solution.residual <= tolerance and needed < 50
    assert needed > 0 and (needed == 1 or solve(cg(needed - 1, 0.0), Matrix(M), g).residual > tolerance)
    assert torch.equal(solution.x, solve(cg(needed, 0.0), Matrix(M), g).x)
    assert_reports_are_true(solution, M, g)


def test_cg_needs_as_many_products_as_distinct_eigenvalues():
    curvature = Matrix(rotated([1.0, 1.0, 1.0, 4.0, 4.0, 9.0]))
    solution = solve(cg(50, 1e-10), curvature, randn(6))
    assert solution.iterations == 3 == curvature.products


def test_cg_that_arrives_exactly_sees_no_negative_curvature():
    g = randn(4)
    solution = solve(cg(10, 0.0), Matrix(2 * eye(4)), g)
    assert torch.equal(solution.x, g / 2) and solution.residual == 0 and solution.iterations == 1
    assert not solution.scalars["solver/negative_curvature"]


@pytest.mark.parametrize("first", [-1.0, 0.0])
def test_cg_returns_g_when_the_first_curvature_is_not_positive(first):
    M = torch.diag(torch.tensor([first, 5.0, 6.0], dtype=torch.float64))
    g = torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64)
    solution = solve(cg(10, 0.0), Matrix(M), g)
    assert torch.equal(solution.x, g)
    assert solution.scalars["solver/negative_curvature"]
    assert solution.iterations == 0
    assert_reports_are_true(solution, M, g)


@pytest.mark.parametrize("seed", range(5))
def test_cg_keeps_the_last_good_iterate_at_negative_curvature(seed):
    M, g = rotated([-0.5, 0.8, 2.0, 5.0, 9.0, 14.0], seed), randn(6, seed=seed + 100)
    solution = solve(cg(20, 0.0), Matrix(M), g)
    kept = int(solution.iterations)
    assert solution.scalars["solver/negative_curvature"]
    assert 0 < kept < 6
    assert close(solution.x, textbook_cg(M, g, kept), 1e-8)
    before = solve(cg(kept, 0.0), Matrix(M), g)
    assert torch.equal(solution.x, before.x) and not before.scalars["solver/negative_curvature"]
    assert torch.dot(g, solution.x) > 0
    assert_reports_are_true(solution, M, g)


def test_damping_above_negative_curvature_is_enough_for_cg():
    M, g = rotated([-0.5, 0.8, 2.0, 5.0]), randn(4)
    solution = solve(cg(20, 1e-12), Matrix(M), g, 1.0)
    assert not solution.scalars["solver/negative_curvature"]
    assert close(solution.x, torch.linalg.solve(M + eye(4), g), 1e-10)


@pytest.mark.parametrize("solver", [cg(10, 1e-10), Dense("refuse"), Identity()])
def test_zero_gradient_gives_zero_direction_and_no_residual(solver):
    case = make_case("categorical")
    curvature = Euclidean(case.tape) if isinstance(solver, Identity) else Matrix(rotated([1.0, 2.0, 3.0]))
    solution = solve(solver, curvature, torch.zeros(curvature.size, dtype=torch.float64), 0.1)
    assert (solution.x == 0).all() and solution.residual == 0 and solution.quadratic == 0 and not solution.iterations


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad_from", [1, 2, 3])
def test_cg_gives_no_direction_when_a_product_is_no_number(bad_from, value):
    class Failing(Matrix):
        def product(self, v):
            return super().product(v) * (value if self.products + 1 >= bad_from else 1.0)

    solution = solve(cg(10, 0.0), Failing(rotated([1.0, 2.0, 3.0, 4.0])), randn(4))
    assert solution.x.isnan().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_cg_gives_no_direction_when_the_gradient_is_no_number(bad):
    g = randn(3)
    g[1] = bad
    assert not solve(cg(10, 0.0), Matrix(rotated([1.0, 2.0, 3.0])), g).x.isfinite().all()


def test_solvers_leave_gradient_and_matrix_as_they_were():
    M, g = rotated([1.0, 2.0, 3.0]), randn(3)
    kept_M, kept_g = M.clone(), g.clone()
    for solver in (cg(3, 0.0), Dense("refuse")):
        apply, _ = solver.prepare({}, Matrix(M), 0.1)
        first, second = apply(g), apply(g)
        assert torch.equal(first.x, second.x)
    assert torch.equal(M, kept_M) and torch.equal(g, kept_g)


def test_dense_raises_damping_until_it_can_factorise_and_says_so():
    M = rotated([0.0, 0.0, 1.0, 3.0])
    g = M @ randn(4)
    solution = solve(Dense("refuse"), Matrix(M - 1e-15 * eye(4)), g)
    used = float(solution.damping)
    assert used == pytest.approx(1e-8 * float(M.diagonal().mean()), rel=1e-6)
    assert_reports_are_true(solution, M, g)
    assert close(solution.x, torch.linalg.solve(M + used * eye(4), g), 1e-6)


def test_dense_multiplies_a_damping_that_is_too_small_by_ten():
    M = rotated([-0.05, 1.0, 2.0])
    factor, used = factorise(M, 1e-3)
    assert float(used) == pytest.approx(0.1)
    assert close(factor @ factor.T, M + 0.1 * eye(3), 1e-12)


def test_dense_keeps_the_requested_damping_when_it_holds():
    factor, used = factorise(rotated([1.0, 2.0, 3.0]), 1e-3)
    assert used == 1e-3


def test_dense_gives_up_after_eight_raises_and_names_the_last():
    M = -100 * eye(3)
    assert factorise(-0.5 * M, 0.0)[1] == 0.0
    with pytest.raises(NumericalFailure, match="failed with damping up to 10; .*larger damping"):
        factorise(M, 0.0)  # 1e-6 is the first, 1e-6 * 10**7 the eighth
    assert float(factorise(-9.9 * eye(3), 1e-7)[1]) == pytest.approx(10.0)
    with pytest.raises(NumericalFailure, match="up to 10;"):
        factorise(M, 1e-7)


@pytest.mark.parametrize("place", [(0, 0), (2, 1)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_dense_refuses_a_matrix_that_is_not_finite(place, bad):
    M = rotated([1.0, 2.0, 3.0])
    M[place] = M[place[::-1]] = bad
    with pytest.raises(NumericalFailure, match="not finite"):
        solve(Dense("refuse"), Matrix(M), randn(3), 0.1)


def test_identity_returns_the_gradient_and_ignores_damping():
    case = make_case("categorical")
    g = randn(len(case.theta))
    solution = solve(Identity(), Euclidean(case.tape), g, 5.0)
    assert torch.equal(solution.x, g)
    assert solution.residual == 0 and solution.iterations is None and solution.damping == 0
    assert float(solution.quadratic) == pytest.approx(float(g @ g))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: cg(0, 0.0), "iterations must be a whole number, 1 or above; got 0"),
        (lambda: cg(10, -1e-3), "tolerance must be between 0 and 1"),
        (lambda: cg(10, math.nan), "tolerance must be between 0 and 1; got nan"),
    ],
)
def test_cg_refuses_what_it_cannot_do(make, says):
    with pytest.raises(ValueError, match=says):
        make()
