"""Estimates of M's diagonal: by random signs, by curvature propagation, and Lehman's bounds from below."""

import pytest
import torch
from torch import Tensor

from tests.support.curvatures import (
    EXACT,
    HUTCHINSON,
    LAMBDA,
    PROPAGATION,
    Matrix,
    bound,
    diagonal,
    is_true,
    matrix,
    rows,
    solve,
    step,
)
from tests.support.oracles import close, eye, make_case, randn, share


@pytest.mark.parametrize("method", [HUTCHINSON, PROPAGATION])
def test_diagonal_estimates_differ_at_every_solve_and_repeat(method):
    case = make_case("categorical")
    U, g = randn(3, 17, 3, seed=4), randn(len(case.theta), seed=7)
    solver, curvature = diagonal(method), bound(case, U)
    state = solver.init()
    first, second = step(solver, state, curvature, g, LAMBDA)
    third, _ = step(solver, second, curvature, g, LAMBDA)
    assert state == solver.init() and second != state
    assert not torch.equal(first.x, third.x)
    assert torch.equal(first.x, solve(solver, curvature, g, LAMBDA).x)
    assert torch.equal(third.x, solve(solver, curvature, g, LAMBDA, second).x)
    assert not torch.equal(first.x, solve(diagonal(method, seed=1), curvature, g, LAMBDA).x)


def estimate(solver, curvature, size: int) -> Tensor:
    """The diagonal that a solver took M's to be, read off its solution at lambda = 1."""
    ones = torch.ones(size, dtype=torch.float64)
    return 1 / solve(solver, curvature, ones, 1.0).x - 1


def test_hutchinson_is_the_mean_of_v_times_M_v_over_random_signs():
    M = randn(6, 6)
    M = M @ M.T + 3 * eye(6)
    curvature = Matrix(M)
    found = estimate(diagonal(HUTCHINSON, draws=4), curvature, 6)
    assert len(curvature.seen) == 4 and len({tuple(v.tolist()) for v in curvature.seen}) > 1
    assert all((v.abs() == 1).all() for v in curvature.seen)
    expected = torch.stack([v * (M @ v) for v in curvature.seen]).mean(0)
    assert close(found, expected.clamp(min=0), 1e-10)


def test_hutchinson_is_unbiased():
    M, draws = randn(6, 6), 4000
    M = M @ M.T
    deviation = ((M - torch.diag(M.diagonal())).square().sum(1) / draws).sqrt()
    found = estimate(diagonal(HUTCHINSON, draws), Matrix(M), 6)
    assert ((found - M.diagonal()).abs() < 5 * deviation).all()
    assert (found - M.diagonal()).abs().max() > 0


def test_negative_estimates_count_as_none_and_are_reported():
    M = torch.diag(torch.tensor([-2.0, 0.5, -1.0], dtype=torch.float64))
    solution = solve(diagonal(HUTCHINSON), Matrix(M), torch.ones(3, dtype=torch.float64), 0.5)
    assert close(solution.x, torch.tensor([2.0, 1.0, 2.0], dtype=torch.float64), 1e-12)
    assert solution.scalars["solver/clamped"] == 2
    assert is_true(solution, M.clamp(min=0), torch.ones(3, dtype=torch.float64))


def test_curvature_propagation_is_unbiased_exact_for_one_factor():
    case, draws = make_case("categorical", weights="masked"), 3000
    U, size = randn(3, 17, 3, seed=4), len(case.theta)
    R, exact = rows(case, U), matrix(case, U).diagonal()
    # the variance of (sum_k e_k c_k)^2 is at most 2 (sum_k c_k^2)^2
    deviation = (2 * torch.einsum("bp,b->p", R.square().sum(0) ** 2, share(case.samples) ** 2) / draws).sqrt()
    found = estimate(diagonal(PROPAGATION, draws), bound(case, U), size)
    assert ((found - exact).abs() <= 5 * deviation).all() and not close(found, exact, 1e-6)
    one = estimate(diagonal(PROPAGATION, 1), bound(case, U[:1]), size)
    assert close(one, matrix(case, U[:1]).diagonal(), 1e-10)


@pytest.mark.parametrize("head", ["categorical", "sigma", "value"])
def test_lehmans_diagonals_are_bounds_from_below(head):
    case = make_case(head, weights="masked")
    units = eye(case.tape.outputs.shape[1])[:, None].expand(-1, 17, -1)
    sums, magnitudes, exact = (
        estimate(diagonal(method), bound(case, units), len(case.theta))
        for method in ("lehman_sum", "lehman_abs", EXACT)
    )
    assert (sums <= magnitudes + 1e-12).all() and (magnitudes <= exact + 1e-12).all()
    assert (sums < magnitudes - 1e-6).any() and (magnitudes < exact - 1e-6).any()
