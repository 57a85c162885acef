"""Blocks that are centred, averaged over updates and of low rank, against the same recursion on dense matrices."""

from functools import cache

import pytest
import torch
from torch import Tensor

from rlopt.config.choices import conf_dir
from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part
from rlopt.core.metrics.gradient_covariance import GradientCovariance
from rlopt.core.network import Network
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import BATCH
from rlopt.core.solvers.block import Block
from rlopt.errors import UserError
from tests.support.building import resolve, trainer
from tests.support.curvatures import LAMBDA, block, blocks_of, groups, is_true, positions, rows, solve, step
from tests.support.curvatures import bound as with_factors
from tests.support.oracles import TAPES, Case, bits, close, eye, make_case, randn, share
from tests.support.two_ranks import Ranks, halves

BY = ["layer", "incoming", "outgoing"]


@cache
def updates(tape: str) -> list[Case]:
    """One policy at the thetas of four updates, each with samples of its own."""
    first = make_case("log_sigma", tape, "masked", moved=0.2)
    found = []
    for i in range(4):
        samples = make_case("log_sigma", tape, "masked", seed=30 + i, moved=0.2).samples
        theta = first.theta + 0.1 * i * randn(len(first.theta), seed=i)
        found.append(Case(first.module, first.network, first.head, theta, samples))
    return found


def covariance(case: Case, centred: bool):
    """The covariance, or second moments, of the samples' gradients of the objective."""
    return GradientCovariance(centred).bind({}, case.tape, case.head, case.samples, Surrogate(0.0))[0]


def cut(M: Tensor, number: Tensor, rank: int | None) -> Tensor:
    """M with every block replaced by its ``rank`` leading eigenpairs."""
    if rank is None:
        return M
    found = torch.zeros_like(M)
    for own in number.unique():
        at = (number == own).nonzero()[:, 0]
        mu, Q = torch.linalg.eigh(M[at[:, None], at])
        found[at[:, None], at] = Q[:, -rank:] @ torch.diag(mu[-rank:]) @ Q[:, -rank:].T
    return found


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("decay, rank", [(0.0, None), (0.0, 2), (0.8, None), (0.8, 2), (0.8, 100)])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("by", BY)
def test_blocks_are_their_dense_recursion(by, centred, decay, rank, tape):
    """With centred, decay and rank it is TONGA."""
    solver = block(by, centred, decay, rank)
    state, C, weight = solver.init(), None, 0.0
    for case in updates(tape):
        number = groups(case, by)
        M = blocks_of(covariance(case, centred).dense(), number)
        weight = decay * weight + 1
        C = cut(M if C is None else (1 - 1 / weight) * C + M / weight, number, rank)
        g = randn(len(C), seed=7)
        solution, state = step(solver, state, covariance(case, False), g, LAMBDA)
        assert close(solution.x, torch.linalg.solve(C + LAMBDA * eye(len(g)), g), 1e-8)
        assert is_true(solution, C, g) and solution.damping == LAMBDA
    assert bool(state) == bool(decay)
    assert abs(weight - sum(decay**i for i in range(4))) < 1e-15


@pytest.mark.parametrize("by", BY)
def test_every_factor_is_centred_with_positions_summed(by):
    case, U = positions(), randn(3, 17, 2, seed=4)
    R = rows(case, U)
    R = R - torch.einsum("kbp,b->kp", R, share(case.samples))[:, None]
    M = blocks_of(torch.einsum("kbp,kbq,b->pq", R, R, share(case.samples)), groups(case, by))
    g = randn(len(M), seed=7)
    found = solve(block(by, centred=True), with_factors(case, U), g, LAMBDA)
    assert close(found.x, torch.linalg.solve(M + LAMBDA * eye(len(g)), g), 1e-10)


def test_two_ranks_centre_by_the_mean_of_both(monkeypatch):
    case, solver, ranks = updates("mlp")[0], block("incoming", True, 0.9, 2), Ranks()
    g = randn(len(case.theta), seed=7)
    whole = solve(solver, covariance(case, False), g, LAMBDA).x
    monkeypatch.setattr("rlopt.core.curvature.all_sum", ranks.all_sum)
    monkeypatch.setattr("rlopt.core.curvature.all_sums", ranks.all_sums)
    parts = halves(case)

    def one(i: int) -> Tensor:
        network = Network(case.module, case.head.constants)
        own = Case(case.module, network, case.head, case.theta.clone(), parts[i])
        return solve(solver, covariance(own, False), g, LAMBDA).x

    a, b = ranks.run(one)
    assert close(a, whole, 1e-10) and torch.equal(a, b)


def test_solving_changes_no_state_and_binds_the_same_bits_again():
    a, b, *_ = updates("mlp")
    g, solver = randn(len(a.theta), seed=7), block("incoming", True, 0.9, 2)
    _, state = step(solver, solver.init(), covariance(a, False), g, LAMBDA)
    kept = bits(state)
    found = [step(solver, state, covariance(b, False), g, LAMBDA) for _ in range(2)]
    assert bits(state) == kept
    assert torch.equal(found[0][0].x, found[1][0].x) and bits(found[0][1]) == bits(found[1][1])


def test_blocks_that_are_cut_raise_a_damping_of_zero():
    case = updates("mlp")[0]
    g = randn(len(case.theta), seed=7)
    cut_down = solve(block("incoming", rank=1), covariance(case, False), g, 0.0)
    assert cut_down.damping > 0 and cut_down.x.isfinite().all()


def test_tonga_is_the_block_solver_with_its_options():
    tonga = construct_part(read_choice("solver", "tonga"), "solver")
    assert tonga == Block("incoming", 256, True, 0.95, 5) and (conf_dir() / "solver/tonga.yaml").is_file()
    assert BATCH in tonga.needs and BATCH not in block("incoming").needs
    with pytest.raises(UserError, match="solver=block cannot serve metric=average: it needs a metric of one batch"):
        resolve(["algo=trpo", "metric=average", "solver=tonga"])
    made = trainer(
        resolve(["algo=trpo", "env=cartpole", "metric=gradient_covariance", "solver=tonga", "solver.rank=2"])
    )
    made.collector.close()
    assert made.agent.actor.update.solver.rank == 2


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"rank": 0}, {"by": "unit"}, {"chunk": 0}])
def test_options_out_of_range_are_refused(options):
    good = {"by": "layer", "chunk": 5, "centred": False, "decay": 0.0, "rank": None}
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
        Block(**{**good, **options})
