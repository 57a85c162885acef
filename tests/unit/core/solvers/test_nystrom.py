"""The Nystrom approximation against its dense definition, and as CG's preconditioner."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.nystrom import Nystrom
from tests.support.curvatures import Matrix, bound, is_true, matrix, solve, step
from tests.support.oracles import close, eye, make_case, randn

P = 60


def decaying(rate: float = 0.3, seed: int = 0, size: int = P) -> Tensor:
    """A semidefinite matrix with eigenvalues 10 exp(-rate i)."""
    Q, _ = torch.linalg.qr(randn(size, size, seed=seed))
    return Q @ torch.diag(10 * torch.exp(-rate * torch.arange(size, dtype=torch.float64))) @ Q.T


def draws(rank: int, size: int = P, seed: int = 0, number: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0])
    )
    return torch.randn(size, rank, generator=generator, dtype=torch.float64)


def definition(M: Tensor, rank: int) -> Tensor:
    """M_r + mu_r (I - Q Q^T), M_r = M V (V^T M V)^-1 V^T M."""
    V = draws(rank, len(M))
    Mr = M @ V @ torch.linalg.solve(V.T @ M @ V, V.T @ M)
    mu, Q = torch.linalg.eigh((Mr + Mr.T) / 2)
    return Mr + mu[-rank] * (eye(len(M)) - Q[:, -rank:] @ Q[:, -rank:].T)


@pytest.mark.parametrize("rank", [1, 3, 10])
def test_it_solves_with_the_dense_definition(rank):
    M, g = decaying(), randn(P, seed=1)
    solution, own = solve(Nystrom(rank, 0), Matrix(M), g, 0.1), definition(M, rank)
    assert close(solution.x, torch.linalg.solve(own + 0.1 * eye(P), g), 1e-8)
    assert is_true(solution, own, g) and solution.iterations == rank


def test_a_matrix_of_lower_rank_is_found_whole():
    case = make_case("categorical")
    U, g = randn(1, 17, 3, seed=4), randn(len(case.theta), seed=7)
    M = matrix(case, U)
    assert torch.linalg.matrix_rank(M) < 20
    for rank in (20, 500):
        solution = solve(Nystrom(rank, 0), bound(case, U), g, 0.1)
        assert close(solution.x, torch.linalg.solve(M + 0.1 * eye(len(g)), g), 1e-8)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_cg_needs_few_iterations_on_a_decaying_spectrum(dtype, tolerance):
    """A sixth of plain CG's after the block, and with the block's products three fifths."""
    M, g = decaying(0.5).to(dtype), randn(P, seed=1).to(dtype)
    plain, helped = (CG(500, tolerance, inner, "cold", 0.0) for inner in (None, Nystrom(20, 0)))
    before, after = (solve(solver, Matrix(M), g, 1e-3) for solver in (plain, helped))
    assert before.residual <= tolerance and after.residual <= tolerance
    assert after.iterations <= 10 and after.iterations + 20 < 0.65 * before.iterations


def test_every_update_draws_new_vectors_and_repeats():
    M, g = decaying(), randn(P, seed=1)
    solver, found = Nystrom(3, 0), []
    state = solver.init()
    for _ in range(2):
        solution, state = step(solver, state, Matrix(M), g, 0.1)
        found.append(solution.x)
    assert state == {"blocks": 2} and not close(found[0], found[1], 1e-6)
    assert torch.equal(found[1], solve(solver, Matrix(M), g, 0.1, {"blocks": 1}).x)


def test_the_block_is_one_pass_through_the_tape(monkeypatch):
    case = make_case("log_sigma")
    curvature, seen = bound(case, randn(2, 17, 4, seed=4)), []
    tape = curvature.tape
    monkeypatch.setattr(tape, "jvps", lambda V, whole=tape.jvps: seen.append(V.shape) or whole(V))
    monkeypatch.setattr(tape, "jvp", lambda v: pytest.fail("a product of its own"))
    solve(Nystrom(6, 0), curvature, randn(len(case.theta)), 0.1)
    assert seen == [(len(case.theta), 6)]


@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_no_curvature_at_all(damping):
    from rlopt.core.checks import NumericalFailure

    g = randn(5)
    if damping:
        assert close(solve(Nystrom(2, 0), Matrix(0 * eye(5)), g, damping).x, g / damping, 1e-12)
    else:
        with pytest.raises(NumericalFailure):
            solve(Nystrom(2, 0), Matrix(0 * eye(5)), g, damping)


@pytest.mark.parametrize("options", [(0, 0), (3, -1)])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        Nystrom(*options)


@pytest.mark.parametrize("lost", ["svd", "eigh"])
def test_a_factorisation_that_fails_is_a_numerical_failure(monkeypatch, lost):
    def fails(*_, **__):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, lost, fails)
    M = torch.zeros(8, 8, dtype=torch.float64) if lost == "svd" else -eye(8)  # of which there is no Cholesky factor
    with pytest.raises(NumericalFailure, match="were not found: did not converge"):
        solve(Nystrom(3, 0), Matrix(M), randn(8), 0.1)
