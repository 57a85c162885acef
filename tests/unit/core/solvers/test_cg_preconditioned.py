"""Preconditioned and warm-started conjugate gradient, on matrices."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import Solution
from rlopt.core.requirements import Requirements
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.lbfgs import LBFGS
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support.curvatures import HUTCHINSON, LAMBDA, Matrix, cg, diagonal, is_true, solve, step
from tests.support.oracles import bits, close, eye, make_case, randn


@dataclass(frozen=True)
class Times:
    """A preconditioner that multiplies with a given matrix, and counts its preparations."""

    matrix: Tensor
    needs: ClassVar[frozenset[str]] = frozenset({"root"})
    requirements: ClassVar[Requirements] = Requirements()

    def init(self):
        return {"prepared": 0}

    def prepare(self, state, curvature, damping):
        def apply(g):
            return Solution(self.matrix @ g, 0.0, 0.0, torch.zeros(()), 0.0)

        return apply, {"prepared": state["prepared"] + 1}


def positive(size: int, seed: int, low: float = 0.1) -> Tensor:
    A = randn(size, size, seed=seed)
    return A @ A.T / size + low * eye(size)


def preconditioned(N: Tensor, iterations: int = 50, tolerance: float = 0.0) -> CG:
    return CG(iterations, tolerance, Times(N), "cold", 0.0)


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
def test_preconditioned_cg_is_cg_on_the_transformed_system(iterations):
    M, N, g = positive(6, 0), positive(6, 1), randn(6, seed=2)
    E = torch.linalg.cholesky(N)
    seen = E.T @ (M + LAMBDA * eye(6)) @ E
    solution = solve(preconditioned(N, iterations), Matrix(M), g, LAMBDA)
    assert close(solution.x, E @ solve(cg(iterations, 0.0), Matrix(seen), E.T @ g).x, 1e-9)
    assert solution.iterations == iterations and is_true(solution, M, g)


@pytest.mark.parametrize("preconditioner", [diagonal(HUTCHINSON, 1), Dense("refuse")])
def test_the_inverse_itself_needs_one_iteration(preconditioner):
    M, g = torch.diag(torch.tensor([1e-3, 1.0, 50.0, 2e4], dtype=torch.float64)), randn(4)
    solution = solve(CG(50, 1e-10, preconditioner, "cold", 0.0), Matrix(M), g, LAMBDA)
    assert solution.iterations == 1 and close(solution.x, g / (M.diagonal() + LAMBDA), 1e-10)
    assert solve(cg(50, 1e-10), Matrix(M), g, LAMBDA).iterations > 3


def test_a_preconditioner_is_prepared_once_with_nested_state():
    solver, M = preconditioned(eye(5)), positive(5, 0)
    state = solver.init()
    assert state == {"preconditioner": {"prepared": 0}}
    solution, new = step(solver, state, Matrix(M), randn(5), LAMBDA)
    assert solution.iterations > 2
    assert new == {"preconditioner": {"prepared": 1}} and state == {"preconditioner": {"prepared": 0}}
    assert solver.needs == {"product", "root"} and cg(1, 0.0).needs == {"product"}


@pytest.mark.parametrize("seed", range(5))
def test_preconditioned_negative_curvature_keeps_the_half_plane(seed):
    M, N, g = positive(6, seed) - 0.6 * eye(6), positive(6, seed + 10), randn(6, seed=seed + 20)
    assert torch.linalg.eigvalsh(M)[0] < 0
    solution = solve(preconditioned(N), Matrix(M), g)
    assert solution.scalars["solver/negative_curvature"]
    assert torch.dot(g, solution.x) > 0 and is_true(solution, M, g)


def test_negative_curvature_at_once_gives_preconditioned_g():
    N, g = positive(3, 0), randn(3)
    solution = solve(preconditioned(N), Matrix(-eye(3)), g)
    assert torch.equal(solution.x, N @ g) and solution.iterations == 0
    assert solution.scalars["solver/negative_curvature"] and is_true(solution, -eye(3), g)


@pytest.mark.parametrize("N", [-eye(4), eye(4) * math.nan, eye(4) * math.inf, 0 * eye(4)])
def test_what_is_no_preconditioner_gives_no_direction(N):
    assert solve(preconditioned(N), Matrix(positive(4, 0)), randn(4)).x.isnan().all()


def test_a_zero_gradient_has_no_direction_with_any_start():
    zero = torch.zeros(4, dtype=torch.float64)
    for start in ("cold", "warm"):
        solution = solve(CG(5, 0.0, diagonal(HUTCHINSON), start, 0.9), Matrix(eye(4)), zero, 0.1)
        assert (solution.x == 0).all() and solution.residual == 0
    warm = CG(5, 0.0, None, "warm", 0.9)
    assert (solve(warm, Matrix(eye(4)), zero, 0.1, {"x": randn(4)}).x == 0).all()


@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_a_warm_start_continues_from_the_last_solution(decay):
    M, g, other = positive(8, 0), randn(8, seed=1), randn(8, seed=2)
    warm = CG(3, 0.0, None, "warm", decay)
    first, state = step(warm, warm.init(), Matrix(M), g, LAMBDA)
    assert torch.equal(first.x, solve(cg(3, 0.0), Matrix(M), g, LAMBDA).x)
    assert torch.equal(state["x"], first.x)
    second, _ = step(warm, state, Matrix(M), other, LAMBDA)
    # x0 and the best correction in the Krylov space of what x0 leaves
    left = other - (M + LAMBDA * eye(8)) @ (decay * first.x)
    assert close(second.x, decay * first.x + solve(cg(3, 0.0), Matrix(M), left, LAMBDA).x, 1e-10)
    assert is_true(second, M, other)


def test_a_warm_start_at_the_solution_makes_one_product():
    M, g = positive(8, 0), randn(8, seed=1)
    warm = CG(50, 1e-8, None, "warm", 1.0)
    _, state = step(warm, warm.init(), Matrix(M), g, LAMBDA)
    curvature = Matrix(M)
    again = solve(warm, curvature, g, LAMBDA, state)
    assert again.iterations == 0 and len(curvature.seen) == 1 and again.residual < 1e-8
    assert torch.equal(again.x, state["x"])


def test_a_warm_start_returns_to_the_half_plane_by_converging():
    M, g = positive(8, 0), randn(8, seed=1)
    away = {"x": -10 * torch.linalg.solve(M, g)}
    short, long = CG(1, 0.0, None, "warm", 1.0), CG(50, 1e-12, None, "warm", 1.0)
    assert torch.dot(g, solve(short, Matrix(M), g, LAMBDA, away).x) < 0
    assert close(solve(long, Matrix(M), g, LAMBDA, away).x, torch.linalg.solve(M + LAMBDA * eye(8), g), 1e-9)


def test_a_warm_start_at_negative_curvature_stays_where_it_was():
    x = randn(4)
    solution = solve(CG(5, 0.0, None, "warm", 0.5), Matrix(-eye(4)), randn(4, seed=1), 0.0, {"x": x})
    assert torch.equal(solution.x, 0.5 * x) and solution.scalars["solver/negative_curvature"]
    assert is_true(solution, -eye(4), randn(4, seed=1))


@pytest.mark.parametrize("solver, kept", [(CG(3, 0.0, None, "warm", 0.9), "x"), (LBFGS(3, 1e-8, "products"), "last")])
def test_an_update_keeps_its_direction_unless_it_was_rejected(solver, kept):
    case = make_case("sigma", weights="masked")
    update = Update(case.network, case.head, Surrogate(0.0), Fisher(None, 0), solver, Constant(LAMBDA), Fixed(0.1))
    state = update.init(case.theta)
    theta, after, report = update(case.theta, state, case.samples)
    assert state["solver"] == {} and report.failure is None
    assert close(theta, case.theta + 0.1 * after["solver"][kept], 1e-12)
    before = bits(after)
    _, again, report = replace(update, step=Fixed(1e6))(theta, after, case.samples)  # to where sigma is below 0
    assert report.scalars["step/accepted"] == 0
    assert bits(again) == before == bits(after)


def test_conjugate_gradient_cannot_precondition_itself():
    with pytest.raises(ValueError, match="preconditioner must be null or a solver that is linear"):
        CG(3, 0.0, cg(3, 0.0), "cold", 0.0)
    with pytest.raises(ValueError, match="preconditioner must be null or a solver that is linear .*; got 'lbfgs'"):
        CG(3, 0.0, LBFGS(3, 1e-8, "products"), "cold", 0.0)  # which learns from directions that were taken
    with pytest.raises(ValueError, match="start must be cold or warm; got 'hot'"):
        CG(3, 0.0, None, "hot", 0.0)
    with pytest.raises(ValueError, match="decay must be between 0 and 1"):
        CG(3, 0.0, None, "warm", 1.5)
