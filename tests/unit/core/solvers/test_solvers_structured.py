"""Structured solvers against dense matrices: the exact ones solve the whole system, the others their own part of it."""

from functools import cache

import pytest
import torch
from torch import Tensor

from rlopt.core.metrics.fisher import Fisher
from rlopt.core.requirements import Incompatible
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.gram import Gram
from tests.support.curvatures import (
    LAMBDA,
    SOLVERS,
    Matrix,
    block,
    blocks_of,
    bound,
    cg,
    diagonal,
    groups,
    is_true,
    low_rank,
    matrix,
    positions,
    rows,
    solve,
)
from tests.support.oracles import HEADS, TAPES, Case, bits, close, eye, fisher, make_case, randn, share

every_tape = pytest.mark.parametrize("tape", TAPES)
every_head = pytest.mark.parametrize("head", HEADS)
EXACT_SOLVERS = {
    **{
        name: SOLVERS[name]
        for name in ("dense", "dense_absolute", "dense_shift", "cg", "full_rank", "gram", "kaczmarz")
    },
    "full_rank_random": low_rank(200, 200, "random", "mean"),
    "full_rank_diagonal": low_rank(200, 200, "random", "diagonal"),
    **{
        f"cg_{name}": CG(300, 1e-12, SOLVERS[name], "cold", 0.0)
        for name in SOLVERS
        if not name.startswith(("cg", "dense_", "lbfgs", "spring"))
    },
    "cg_warm": CG(300, 1e-12, None, "warm", 0.9),
}
STRUCTURES = {
    "exact": (diagonal(), lambda case, U, M: torch.diag(M.diagonal())),
    "layer": (block("layer"), lambda case, U, M: blocks_of(M, groups(case, "layer"))),
    "gram_layer": (Gram(10_000, "layer"), lambda case, U, M: blocks_of(M, groups(case, "layer"))),
    "incoming": (block("incoming"), lambda case, U, M: blocks_of(M, groups(case, "incoming"))),
    "outgoing": (block("outgoing"), lambda case, U, M: blocks_of(M, groups(case, "outgoing"))),
    "lehman_sum": (diagonal("lehman_sum"), lambda case, U, M: torch.diag(lehman(case, rows(case, U)))),
    "lehman_abs": (diagonal("lehman_abs"), lambda case, U, M: torch.diag(lehman(case, rows(case, U).abs()))),
    "leading": (low_rank(4), lambda case, U, M: leading(M, 4, "none")),
    "leading_mean": (low_rank(4, remainder="mean"), lambda case, U, M: leading(M, 4, "mean")),
    "leading_diagonal": (low_rank(4, remainder="diagonal"), lambda case, U, M: leading(M, 4, "diagonal")),
}


@cache
def prepared(head: str, tape: str, hidden: tuple[int, ...] = (5, 4)) -> tuple[Case, Tensor]:
    case = make_case(head, tape, "masked", hidden=hidden)
    return case, fisher(case)


def bind(case: Case):
    return Fisher(None, 0).bind({}, case.tape, case.head, case.samples, None)[0]


def lehman(case: Case, R: Tensor) -> Tensor:
    return torch.einsum("kbp,b->kp", R, share(case.samples)).square().sum(0)


def leading(M: Tensor, rank: int, remainder: str) -> Tensor:
    mu, Q = torch.linalg.eigh(M)
    if remainder == "diagonal":
        kept = Q[:, -rank:] @ torch.diag(mu[-rank:]) @ Q[:, -rank:].T
        return kept + torch.diag((M - kept).diagonal())
    left = mu[:-rank].mean() if remainder == "mean" else torch.zeros(())
    return Q[:, -rank:] @ torch.diag(mu[-rank:] - left) @ Q[:, -rank:].T + left * eye(len(M))


@pytest.mark.parametrize("solver", EXACT_SOLVERS.values(), ids=EXACT_SOLVERS)
@every_tape
@every_head
def test_exact_solvers_solve_the_oracles_system(head, tape, solver):
    case, F = prepared(head, tape)
    g = randn(len(F), seed=7)
    solution = solve(solver, bind(case), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(F + LAMBDA * eye(len(g)), g), 1e-8)
    assert is_true(solution, F, g)
    assert solution.residual < 1e-9
    assert float(solution.damping) == pytest.approx(LAMBDA, rel=1e-12)  # dense_shift: less an eigenvalue of -1e-16


@every_tape
@every_head
def test_a_block_per_layer_of_one_layer_is_the_whole_matrix(head, tape):
    case, F = prepared(head, tape, hidden=())
    # a head with constants has a block of theirs, with nothing between it and the mean's
    g = randn(len(F), seed=7)
    solution = solve(block("layer"), bind(case), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(F + LAMBDA * eye(len(g)), g), 1e-8)
    assert is_true(solution, F, g)


@pytest.mark.parametrize("solver, definition", STRUCTURES.values(), ids=STRUCTURES)
@every_tape
@every_head
def test_approximations_solve_their_own_dense_system(head, tape, solver, definition):
    case, _ = prepared(head, tape)
    U = randn(3, *case.tape.outputs.shape, seed=4)
    M, g = definition(case, U, matrix(case, U)), randn(len(case.theta), seed=7)
    solution = solve(solver, bound(case, U), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(M + LAMBDA * eye(len(g)), g), 1e-10)
    assert is_true(solution, M, g) and solution.damping == LAMBDA


@pytest.mark.parametrize("solver, definition", STRUCTURES.values(), ids=STRUCTURES)
def test_a_layers_positions_are_summed_before_squaring(solver, definition):
    case = positions()
    U = randn(3, 17, 2, seed=4)
    M, g = definition(case, U, matrix(case, U)), randn(len(case.theta), seed=7)
    solution = solve(solver, bound(case, U), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(M + LAMBDA * eye(len(g)), g), 1e-10)


def test_gram_sums_positions_too():
    case = positions()
    U, g = randn(3, 17, 2, seed=4), randn(len(case.theta), seed=7)
    M = matrix(case, U)
    assert close(
        solve(Gram(51, "network"), bound(case, U), g, LAMBDA).x, torch.linalg.solve(M + LAMBDA * eye(len(g)), g), 1e-8
    )


@pytest.mark.parametrize("by", ["layer", "incoming", "outgoing"])
def test_blocks_are_those_of_the_weights_they_are_named_after(by):
    number = groups(make_case("log_sigma"), by)  # 3-5-4-2 and two constants
    assert len(number.unique()) == {"layer": 4, "incoming": 5 + 4 + 2 + 2, "outgoing": 4 + 6 + 5 + 1}[by]
    assert (number[0] == number[[0, 1, 3, 15, 16]]).tolist() == {
        "layer": [True] * 5,
        "incoming": [True, True, False, True, False],
        "outgoing": [True, False, True, False, False],
    }[by]


@pytest.mark.parametrize("start", ["gradient", "random"])
def test_low_rank_finds_every_eigenvalue_of_many(start):
    M = torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    g = randn(6)
    for rank, kept in ((3, [3.0] * 3 + [0.0] * 3), (4, [3.0] * 3 + [1.0] + [0.0] * 2), (6, M.diagonal().tolist())):
        own = torch.diag(torch.tensor(kept, dtype=torch.float64))
        solution = solve(low_rank(rank, 6, start), Matrix(M), g, 0.5)
        assert close(solution.x, torch.linalg.solve(own + 0.5 * eye(6), g), 1e-10)
        assert is_true(solution, own, g) and solution.iterations == 6


@pytest.mark.parametrize("products, tolerance", [(3, float("inf")), (30, 1e-8)])
def test_a_diagonal_remainder_keeps_the_diagonal_of_m(products, tolerance):
    """Above it where three products have not yet found the pairs, and nothing left may be negative."""
    case = make_case("categorical")
    U = randn(3, *case.tape.outputs.shape, seed=4)
    M, solver = matrix(case, U), low_rank(2, products, "random", "diagonal")
    inverse = torch.stack([solve(solver, bound(case, U), e, 0.1).x for e in eye(len(M))], 1)
    own = torch.linalg.inv(inverse) - 0.1 * eye(len(M))
    more = own.diagonal() - M.diagonal()
    assert more.min() > -1e-8 and more.max() < tolerance
    assert (own - M).norm() < (M - M.diagonal().diag()).norm()  # nearer than the diagonal alone


def test_a_diagonal_remainder_without_damping_raises_it():
    case = make_case("categorical", activation=torch.nn.ReLU)  # some units are dead, so that M is 0 there
    U = 1e-3 * randn(1, *case.tape.outputs.shape, seed=4)
    M = matrix(case, U)
    assert (M.diagonal() == 0).any()
    solution = solve(low_rank(2, 30, "random", "diagonal"), bound(case, U), M @ randn(len(M)), 0.0)
    assert solution.damping > 0 and solution.x.isfinite().all()


def test_low_rank_makes_as_many_products_as_asked_for():
    curvature = Matrix(torch.diag(torch.arange(1.0, 21.0, dtype=torch.float64)))
    solution = solve(low_rank(2, 7), curvature, randn(20), 0.1)
    assert len(curvature.seen) == 7 == solution.iterations
    assert close(curvature.seen[0], randn(20) / randn(20).norm(), 1e-12)
    V = torch.stack(curvature.seen)
    assert close(V @ V.T, eye(7), 1e-12)


def test_gram_is_refused_if_it_is_not_exact_or_too_large(monkeypatch):
    case = make_case("categorical")
    U, g = randn(3, 17, 3), randn(len(case.theta))
    with pytest.raises(Incompatible, match="51 x 51 .* 3 factors for each of 17 samples"):
        solve(Gram(50, "network"), bound(case, U), g, 0.1)
    monkeypatch.setattr("rlopt.core.solvers.gram.world_size", lambda: 2)
    with pytest.raises(Incompatible, match="other ranks"):
        solve(Gram(51, "network"), bound(case, U), g, 0.1)


@pytest.mark.parametrize("indefinite", ["absolute", "shift"])
def test_dense_makes_an_indefinite_matrix_positive(indefinite):
    Q, _ = torch.linalg.qr(randn(5, 5))
    mu = torch.tensor([-2.0, -0.1, 0.5, 1.0, 4.0], dtype=torch.float64)
    M = Q @ torch.diag(mu) @ Q.T
    own, used = (Q @ torch.diag(mu.abs()) @ Q.T, LAMBDA) if indefinite == "absolute" else (M, 2 + LAMBDA)
    g = randn(5, seed=1)
    solution = solve(Dense(indefinite), Matrix(M), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(own + used * eye(5), g), 1e-10)
    assert is_true(solution, own, g) and float(solution.damping) == pytest.approx(used, rel=1e-12)
    assert torch.dot(g, solution.x) > 0


def test_a_small_lambda_survives_a_large_shift():
    """In float32 -1000 + (1000 + 1e-5) is 0: the least eigenvalue is raised first, and lambda is added to it."""
    M, g = torch.diag(torch.tensor([-1000.0, 0.0])), torch.tensor([0.0, 1.0])
    solution = solve(Dense("shift"), Matrix(M), g, 1e-2)
    assert solution.x.isfinite().all() and float(solution.damping) == pytest.approx(1000.01)


@pytest.mark.parametrize("indefinite", ["refuse", "absolute", "shift"])
def test_dense_leaves_a_positive_matrix_as_it_is(indefinite):
    M, g = randn(5, 5) @ randn(5, 5).T + eye(5), randn(5, seed=1)
    solution = solve(Dense(indefinite), Matrix(M), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(M + LAMBDA * eye(5), g), 1e-10) and is_true(solution, M, g)


@pytest.mark.parametrize("name", SOLVERS)
def test_neither_state_nor_gradient_is_changed_by_a_solve(name):
    case, solver = make_case("categorical"), SOLVERS[name]
    curvature, state = bound(case, randn(3, 17, 3, seed=4)), SOLVERS[name].init()
    for seed in range(3):
        g = randn(len(case.theta), seed=seed)
        before, kept = bits(state), g.clone()
        apply, new = solver.prepare(state, curvature, LAMBDA)
        made = bits(new)
        first, second = apply(g), apply(g)
        assert torch.equal(first.x, second.x) and torch.equal(g, kept)
        assert bits(state) == before and bits(new) == made
        state = {**new, **first.state}
    assert cg(1, 0.0).init() == {}
