"""Structured solvers against dense matrices: the exact ones solve the whole system, the others their own part of it."""

from functools import cache

import pytest
import torch
from torch import Tensor

from rlopt.core.metrics.fisher import Fisher
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.lbfgs import LBFGS
from rlopt.errors import UserError
from tests.core.curvatures import (
    EXACT,
    HUTCHINSON,
    PROPAGATION,
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
    step,
)
from tests.oracles import HEADS, TAPES, Case, bits, close, eye, fisher, make_case, randn, share

LAMBDA = 1e-2
every_tape = pytest.mark.parametrize("tape", TAPES)
every_head = pytest.mark.parametrize("head", HEADS)
EXACT_SOLVERS = {
    **{name: SOLVERS[name] for name in ("dense", "dense_absolute", "dense_shift", "cg", "full_rank", "gram")},
    "full_rank_random": low_rank(200, 200, "random", "mean"),
    **{
        f"cg_{name}": CG(300, 1e-12, SOLVERS[name], "cold", 0.0)
        for name in SOLVERS
        if not name.startswith(("cg", "dense_"))
    },
    "cg_warm": CG(300, 1e-12, None, "warm", 0.9),
}
STRUCTURES = {
    "exact": (diagonal(), lambda case, U, M: torch.diag(M.diagonal())),
    "layer": (block("layer"), lambda case, U, M: blocks_of(M, groups(case, "layer"))),
    "incoming": (block("incoming"), lambda case, U, M: blocks_of(M, groups(case, "incoming"))),
    "outgoing": (block("outgoing"), lambda case, U, M: blocks_of(M, groups(case, "outgoing"))),
    "lehman_sum": (diagonal("lehman_sum"), lambda case, U, M: torch.diag(lehman(case, rows(case, U)))),
    "lehman_abs": (diagonal("lehman_abs"), lambda case, U, M: torch.diag(lehman(case, rows(case, U).abs()))),
    "leading": (low_rank(4), lambda case, U, M: leading(M, 4, "none")),
    "leading_mean": (low_rank(4, remainder="mean"), lambda case, U, M: leading(M, 4, "mean")),
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
    assert solution.residual < 1e-9 and solution.damping == LAMBDA


@every_tape
@every_head
def test_a_block_per_layer_of_a_one_layer_net_is_the_whole_matrix(head, tape):
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
def test_positions_of_a_layer_are_summed_before_anything_is_squared(solver, definition):
    case = positions()
    U = randn(3, 17, 2, seed=4)
    M, g = definition(case, U, matrix(case, U)), randn(len(case.theta), seed=7)
    solution = solve(solver, bound(case, U), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(M + LAMBDA * eye(len(g)), g), 1e-10)


def test_gram_sums_positions_too():
    case = positions()
    U, g = randn(3, 17, 2, seed=4), randn(len(case.theta), seed=7)
    M = matrix(case, U)
    assert close(solve(Gram(51), bound(case, U), g, LAMBDA).x, torch.linalg.solve(M + LAMBDA * eye(len(g)), g), 1e-8)


@pytest.mark.parametrize("by", ["layer", "incoming", "outgoing"])
def test_blocks_are_those_of_the_weights_they_are_named_after(by):
    number = groups(make_case("log_sigma"), by)  # 3-5-4-2 and two constants
    assert len(number.unique()) == {"layer": 4, "incoming": 5 + 4 + 2 + 2, "outgoing": 4 + 6 + 5 + 1}[by]
    assert (number[0] == number[[0, 1, 3, 15, 16]]).tolist() == {
        "layer": [True] * 5,
        "incoming": [True, True, False, True, False],
        "outgoing": [True, False, True, False, False],
    }[by]


@pytest.mark.parametrize("method", [HUTCHINSON, PROPAGATION])
def test_estimates_of_the_diagonal_differ_at_every_solve_and_can_be_repeated(method):
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


def test_curvature_propagation_is_unbiased_and_exact_for_one_factor():
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


@pytest.mark.parametrize("start", ["gradient", "random"])
def test_low_rank_finds_every_eigenvalue_of_many(start):
    M = torch.diag(torch.tensor([3.0, 3.0, 3.0, 1.0, 0.0, 0.0], dtype=torch.float64))
    g = randn(6)
    for rank, kept in ((3, [3.0] * 3 + [0.0] * 3), (4, [3.0] * 3 + [1.0] + [0.0] * 2), (6, M.diagonal().tolist())):
        own = torch.diag(torch.tensor(kept, dtype=torch.float64))
        solution = solve(low_rank(rank, 6, start), Matrix(M), g, 0.5)
        assert close(solution.x, torch.linalg.solve(own + 0.5 * eye(6), g), 1e-10)
        assert is_true(solution, own, g) and solution.iterations == 6


def test_low_rank_makes_as_many_products_as_asked_for():
    curvature = Matrix(torch.diag(torch.arange(1.0, 21.0, dtype=torch.float64)))
    solution = solve(low_rank(2, 7), curvature, randn(20), 0.1)
    assert len(curvature.seen) == 7 == solution.iterations
    assert close(curvature.seen[0], randn(20) / randn(20).norm(), 1e-12)
    V = torch.stack(curvature.seen)
    assert close(V @ V.T, eye(7), 1e-12)


def test_gram_is_refused_where_it_cannot_be_exact_or_would_not_fit(monkeypatch):
    case = make_case("categorical")
    U, g = randn(3, 17, 3), randn(len(case.theta))
    with pytest.raises(UserError, match="51 x 51 .* 3 factors for each of 17 samples"):
        solve(Gram(50), bound(case, U), g, 0.1)
    monkeypatch.setattr("rlopt.core.solvers.gram.ranks", lambda: 2)
    with pytest.raises(UserError, match="other ranks"):
        solve(Gram(51), bound(case, U), g, 0.1)


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


@pytest.mark.parametrize("indefinite", ["absolute", "shift"])
def test_dense_makes_an_indefinite_matrix_positive(indefinite):
    Q, _ = torch.linalg.qr(randn(5, 5))
    mu = torch.tensor([-2.0, -0.1, 0.5, 1.0, 4.0], dtype=torch.float64)
    own = Q @ torch.diag(mu.abs() if indefinite == "absolute" else mu + 2) @ Q.T
    g = randn(5, seed=1)
    solution = solve(Dense(indefinite), Matrix(Q @ torch.diag(mu) @ Q.T), g, LAMBDA)
    assert close(solution.x, torch.linalg.solve(own + LAMBDA * eye(5), g), 1e-10)
    assert is_true(solution, own, g) and solution.damping == LAMBDA
    assert torch.dot(g, solution.x) > 0


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
