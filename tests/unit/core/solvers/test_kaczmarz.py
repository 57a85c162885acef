"""Block Kaczmarz against its own definition with dense rows, and converged against dense and gram."""

import pytest
import torch
from torch import Tensor, nn

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import PullBack, factored
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.network import Network
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.requirements import Incompatible
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.kaczmarz import Kaczmarz
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.update import Update
from tests.support.curvatures import bound, is_true, matrix, positions, rows, solve, step
from tests.support.modules import Scaled, double
from tests.support.oracles import TAPES, Case, close, eye, make_case, randn, share
from tests.support.remembering import KINDS, network
from tests.support.remembering import rows as rows_in_time
from tests.support.stepping import CONSTANT
from tests.support.two_ranks import Ranks, halves

LAMBDA = 0.3


def exact(M: Tensor, g: Tensor, damping: float = LAMBDA) -> Tensor:
    return torch.linalg.solve(M + damping * eye(len(g)), g)


def made(head: str = "log_sigma", tape: str = "mlp") -> tuple[Case, Tensor, Tensor]:
    case = make_case(head, tape, "masked")
    return case, 0.5 * randn(2, *case.tape.outputs.shape, seed=4), randn(len(case.theta), seed=7)


def written_out(S: Tensor, A: Tensor, size: int, sweeps: int, lam: float) -> Tensor:
    """RAT's step for v, (S S^T + lambda I) v = A, from v = A / lambda and x = S^T v, on dense rows S (K, B, P)."""
    generator = torch.Generator().manual_seed(draw_seed(0, 0))
    blocks = [part.sort().values for part in torch.randperm(S.shape[1], generator=generator).split(size)]
    there = [i for _ in range(sweeps) for i in torch.randperm(len(blocks), generator=generator).tolist()]
    v = A / lam
    x = torch.einsum("kbp,kb->p", S, v)
    for i in [*there, *there[::-1]]:
        B = blocks[i]
        own = S[:, B].flatten(0, 1)
        dv = torch.linalg.solve(
            own @ own.T + lam * eye(len(own)), (A[:, B].flatten() - own @ x - lam * v[:, B].flatten())
        )
        v[:, B] += dv.view(len(S), -1)
        x = x + own.T @ dv
    return x


def draw_seed(seed: int, solves: int) -> int:
    import numpy as np

    return int(np.random.SeedSequence((seed, solves)).generate_state(1, np.uint64)[0])


@pytest.mark.parametrize("size, sweeps", [(1, 1), (5, 1), (5, 4), (16, 2), (17, 1), (100, 3)])
def test_it_is_rats_step_for_the_transformed_advantages(size, sweeps):
    """For a gradient S^T A; a second visit to the block in the middle changes nothing."""
    case, U, _ = made()
    S = rows(case, U) * share(case.samples).sqrt()[:, None]
    A = randn(2, 17, seed=9)
    g = torch.einsum("kbp,kb->p", S, A)
    solution = solve(Kaczmarz(size, sweeps, 0), bound(case, U), g, LAMBDA)
    assert close(solution.x, written_out(S, A, size, sweeps, LAMBDA), 1e-10)
    assert is_true(solution, matrix(case, U), g) and solution.iterations == sweeps


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("size", [3, 8, 17])
def test_converged_it_is_gram_and_dense(size, tape):
    case, U, g = made(tape=tape)
    curvature, M = bound(case, U), matrix(case, U)
    solution = solve(Kaczmarz(size, 150, 0), curvature, g, LAMBDA)
    assert close(solution.x, exact(M, g), 1e-8) and solution.residual < 1e-8
    assert close(solution.x, solve(Gram(1000, "network"), curvature, g, LAMBDA).x, 1e-8)


def test_every_sweep_comes_nearer():
    case, U, g = made()
    M, lengths = matrix(case, U), []
    A = M + LAMBDA * eye(len(g))
    for sweeps in (1, 2, 4, 8, 16):
        off = solve(Kaczmarz(5, sweeps, 0), bound(case, U), g, LAMBDA).x - exact(M, g)
        lengths.append(float(off @ A @ off))
    assert all(b < 0.9 * a for a, b in zip(lengths, lengths[1:], strict=False))


@pytest.mark.parametrize("sweeps", [1, 3])
@pytest.mark.parametrize("damping", [1e-4, 0.3, 10.0])
def test_x_is_a_symmetric_matrix_above_the_inverse_times_g(sweeps, damping):
    """So that it points uphill however few the sweeps, and can precondition."""
    case, U, _ = made()
    apply, _ = Kaczmarz(4, sweeps, 0).prepare({"solves": 0}, bound(case, U), damping)
    N = torch.stack([apply(e).x for e in eye(len(case.theta))], 1)
    inverse = torch.linalg.inv(matrix(case, U) + damping * eye(len(N)))
    assert close(N * damping, N.T * damping, 1e-10)
    assert torch.linalg.eigvalsh((N + N.T) / 2 - inverse)[0] > -1e-9 / damping


def test_it_preconditions_cg():
    case, U, g = made()
    M = matrix(case, U)
    plain = solve(CG(200, 1e-10, None, "cold", 0.0), bound(case, U), g, 1e-3)
    helped = solve(CG(200, 1e-10, Kaczmarz(5, 1, 0), "cold", 0.0), bound(case, U), g, 1e-3)
    assert close(helped.x, exact(M, g, 1e-3), 1e-6) and helped.iterations < plain.iterations / 2


def test_every_solve_has_blocks_of_its_own_and_repeats():
    case, U, g = made()
    solver, found = Kaczmarz(5, 1, 0), []
    state = solver.init()
    for _ in range(2):
        solution, state = step(solver, state, bound(case, U), g, LAMBDA)
        found.append(solution.x)
    again = solve(solver, bound(case, U), g, LAMBDA, {"solves": 1}).x
    assert state == {"solves": 2} and torch.equal(found[1], again)
    assert not close(found[0], found[1], 1e-6)
    assert not close(solve(Kaczmarz(5, 1, 1), bound(case, U), g, LAMBDA).x, found[0], 1e-6)


def test_positions_are_summed_first():
    case = positions()
    U, g = 0.3 * randn(3, 17, 2, seed=4), randn(len(case.theta), seed=7)
    assert close(solve(Kaczmarz(6, 300, 0), bound(case, U), g, LAMBDA).x, exact(matrix(case, U), g), 1e-8)


def test_a_network_without_layer_statistics_is_served():
    """A parameter of 4,097 numbers outside any layer: other solvers of samples refuse it."""
    case = make_case("value")
    module = double(nn.Sequential(Scaled(3, 4097), nn.Linear(3, 1)))
    net = Network(module)
    case = Case(module, net, case.head, net.layout.flatten(module), case.samples)
    U, g = randn(2, 17, 1, seed=4), randn(net.layout.size, seed=7)
    with pytest.raises(Incompatible, match="layer statistics"):
        solve(Gram(100, "network"), bound(case, U), g, 1.0)
    solution = solve(Kaczmarz(6, 60, 0), bound(case, U), g, 1.0)
    assert solution.residual < 1e-9 and is_close_by_rows(solution.x, bound(case, U), g)


def is_close_by_rows(x: Tensor, curvature: PullBack, g: Tensor) -> bool:
    return close(curvature.product(x) + x, g, 1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_with_memory_is_solved_in_whole_sequences(kind):
    head = DiagonalGaussian(2)
    net = network(kind, 2, 2)
    tape = net.tape(0.5 * randn(net.layout.size, seed=1), rows_in_time(kind))
    share = torch.full((15,), 1 / 15, dtype=torch.float64)
    F, g = factored(tape, share, head.fisher_root(tape.outputs)), randn(tape.size, seed=5)
    solution = solve(Kaczmarz(7, 100, 0), F, g, LAMBDA)  # sequences of 5: one a block
    assert close(solution.x, exact(F.dense(), g), 1e-8)


@pytest.mark.parametrize("records", [True, False])
def test_two_ranks_take_one_ranks_steps(monkeypatch, records):
    case, U, g = made("categorical")
    alone = solve(Kaczmarz(5, 2, 0), bound(case, U), g, LAMBDA).x
    parts, ranks, cut = halves(case), Ranks(), [slice(0, 4), slice(4, None)]
    import threading

    for module in ("solvers.kaczmarz", "curvature"):
        monkeypatch.setattr(f"rlopt.core.{module}.all_sum", ranks.all_sum)
    monkeypatch.setattr("rlopt.core.solvers.kaczmarz.rank", lambda: int(threading.current_thread().name))
    counts = {1: [1, 1]}
    monkeypatch.setattr("rlopt.core.solvers.kaczmarz.gather_counts", lambda n, d: counts.get(n, [4, 13]))
    if not records:

        def refuse(*_: object) -> None:
            raise Incompatible("no records")

        monkeypatch.setattr("rlopt.core.tapes.mlp.MLPTape.layers", refuse)

    def one(i: int) -> Tensor:
        net = Network(case.module, case.head.constants)
        tape = net.tape(case.theta.clone(), parts[i].inputs)
        return solve(Kaczmarz(5, 2, 0), factored(tape, parts[i].share, U[:, cut[i]]), g, LAMBDA).x

    assert all(close(x, alone, 1e-10) for x in ranks.run(one))


def test_it_needs_damping():
    case, U, g = made()
    for damping in (0.0, -1.0, float("nan")):
        with pytest.raises(NumericalFailure, match="the Gram matrix needs damping above 0"):
            solve(Kaczmarz(5, 1, 0), bound(case, U), g, damping)


@pytest.mark.parametrize("options", [(0, 1, 0), (5, 0, 0), (5, 1, -1)])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        Kaczmarz(*options)


@pytest.mark.parametrize("solver", [Kaczmarz(5, 1, 0), Gram(10_000, "network")])
def test_figures_cost_a_product_only_where_they_are_read(monkeypatch, solver):
    case, U, g = made()
    products, product = [], PullBack.product
    monkeypatch.setattr(PullBack, "product", lambda self, v: products.append(v) or product(self, v))
    solution = solve(solver, bound(case, U), g, LAMBDA)
    assert not products
    r = g - matrix(case, U) @ solution.x - LAMBDA * solution.x
    assert float(solution.residual) == pytest.approx(float(r.norm() / g.norm()), rel=1e-6, abs=1e-12)
    assert float(solution.quadratic) == pytest.approx(float(solution.x @ matrix(case, U) @ solution.x), rel=1e-9)
    assert len(products) == 1


@pytest.mark.parametrize("solver", [Kaczmarz(100, 1, 0), Gram(10_000, "network")])
def test_a_residual_that_is_read_late_is_of_the_theta_before(solver):
    """An optimizer moves theta in place, and the figure is made after it."""
    case = make_case("log_sigma", weights="masked")
    sgd = Optimizer({"_target_": "torch.optim.SGD", "lr": 0.1}, CONSTANT, None)
    update = Update(case.network, case.head, Surrogate(0.0), Fisher(None, 0), solver, Constant(LAMBDA), sgd)
    before = case.theta.clone()
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert not torch.equal(theta, before) and report.read()["solver/residual"] < 1e-9
