"""L-BFGS against the update of the dense inverse."""

import torch
from torch import Tensor

from rlopt.core.solvers.lbfgs import LBFGS
from tests.support.curvatures import Matrix, is_true, solve, step
from tests.support.oracles import bits, close, eye, randn


def bfgs(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """H from pairs (s, y), oldest first, by the update of the inverse itself."""
    (s, y), n = pairs[-1], len(pairs[0][0])
    H = (s @ y) / (y @ y) * eye(n)
    for s, y in pairs:
        rho = 1 / (s @ y)
        H = (eye(n) - rho * torch.outer(s, y)) @ H @ (eye(n) - rho * torch.outer(y, s)) + rho * torch.outer(s, s)
    return H


def test_lbfgs_is_the_bfgs_inverse_of_the_last_directions():
    A = randn(8, 8)
    M, damping, solver = A @ A.T / 8, 0.3, LBFGS(3, 1e-8)
    state, directions = solver.init(), []
    for update in range(6):
        g, before = randn(8, seed=update), bits(state)
        solution, new = step(solver, state, Matrix(M), g, damping)
        assert bits(state) == before
        if directions:
            pairs = [(s, M @ s + damping * s) for s in directions[-3:]]
            H = bfgs(pairs)
            assert close(solution.x, H @ g, 1e-10)
            assert close(H @ pairs[-1][1], pairs[-1][0], 1e-10)
            assert is_true(solution, torch.linalg.inv(H) - damping * eye(8), g)
            assert solution.scalars["solver/pairs"] == len(pairs)
        else:
            assert torch.equal(solution.x, g)
        directions.append(solution.x)
        state = new


def test_lbfgs_passes_over_pairs_without_positive_curvature():
    M = torch.diag(torch.tensor([-1.0, 2.0, 3.0], dtype=torch.float64))
    solver, (a, b) = LBFGS(5, 1e-8), eye(3)[:2]
    _, state = step(solver, solver.init(), Matrix(M), a)
    first, state = step(solver, state, Matrix(M), b)
    assert torch.equal(first.x, b) and first.scalars["solver/pairs"] == 0
    second, _ = step(solver, state, Matrix(M), b)
    assert close(second.x, b / 2, 1e-12) and second.scalars["solver/pairs"] == 1
    damped = solve(solver, Matrix(M), a, 1.5, state)  # enough to make the first direction's curvature positive
    assert damped.scalars["solver/pairs"] == 2 and close(damped.x, a / 0.5, 1e-12)
