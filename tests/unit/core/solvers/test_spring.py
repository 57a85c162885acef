"""SPRING against its minimisation with dense matrices; without momentum it is the solver itself, to the bit."""

import pytest
import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.compatible import Compatible
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.solvers.power import Power
from rlopt.core.solvers.spring import Spring
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support.curvatures import SOLVERS, Matrix, bound, cg, matrix, solve, step
from tests.support.oracles import bits, close, eye, make_case, randn

LAMBDA = 0.1
INNER = {name: solver for name, solver in SOLVERS.items() if not name.startswith("spring")}
EXACT = {"dense": Dense("refuse"), "cg": cg(300, 1e-13)}


def few(size: int, count: int, seed: int) -> Tensor:
    """The matrix of ``count`` samples, of rank below ``size``."""
    S = randn(count, size, seed=seed)
    return S.T @ S / count


@pytest.mark.parametrize("momentum", [0.3, 0.9])
@pytest.mark.parametrize("inner", EXACT)
def test_each_direction_minimises_its_own_objective(inner, momentum):
    """1/2 d^T M d - g^T d + lambda / 2 |d - mu d_prev|^2, with another batch at every update."""
    solver, last = Spring(EXACT[inner], momentum), torch.zeros(12, dtype=torch.float64)
    state = solver.init()
    for i in range(5):
        M, g = few(12, 6, i), randn(12, seed=20) + 0.3 * randn(12, seed=30 + i)
        solution, state = step(solver, state, Matrix(M), g, LAMBDA)
        wanted = torch.linalg.solve(M + LAMBDA * eye(12), g + momentum * LAMBDA * last)
        assert close(solution.x, wanted, 1e-9) and torch.equal(state["direction"], solution.x)
        assert float(solution.quadratic) == pytest.approx(float(wanted @ M @ wanted), rel=1e-8)
        assert solution.residual < 1e-9 and solution.scalars["solver/restarted"] == 0
        last = wanted


@pytest.mark.parametrize("inner", INNER)
def test_without_momentum_it_is_the_solver_itself(inner):
    case, alone, plain = make_case("categorical"), INNER[inner], INNER[inner].init()
    solver = Spring(alone, 0.0)
    state = solver.init()
    for seed in range(3):
        curvature, g = bound(case, randn(3, 17, 3, seed=seed)), randn(len(case.theta), seed=seed + 9)
        expected, plain = step(alone, plain, curvature, g, LAMBDA)
        found, state = step(solver, state, bound(case, randn(3, 17, 3, seed=seed)), g, LAMBDA)
        assert torch.equal(found.x, expected.x) and bits(state) == bits({"of": plain})
        assert bits([found.residual, found.quadratic, found.damping, found.iterations]) == bits(
            [expected.residual, expected.quadratic, expected.damping, expected.iterations]
        )
        assert found.scalars.keys() == expected.scalars.keys()


@pytest.mark.parametrize("inner", INNER)
def test_every_solver_carries_its_last_direction(inner):
    """d = mu d_prev + solve(g - mu M d_prev), whatever the solver's own matrix is."""
    case, momentum = make_case("categorical"), 0.5
    first, second = (randn(3, 17, 3, seed=s) for s in (4, 5))
    g = matrix(case, second) @ randn(len(case.theta), seed=8) + randn(len(case.theta), seed=7)
    solver = Spring(INNER[inner], momentum)
    _, state = step(solver, solver.init(), bound(case, first), g, LAMBDA)
    last = state["direction"]
    solution, _ = step(solver, state, bound(case, second), g, LAMBDA)
    apply, _ = INNER[inner].prepare(state["of"], bound(case, second), LAMBDA)
    carried = momentum * last
    expected = carried + apply(g - matrix(case, second) @ carried).x
    wanted = expected if float(g @ expected) > 0 else apply(g).x
    assert close(solution.x, wanted, 1e-7)


def test_constant_batches_lead_to_less_damping_and_stay_uphill():
    """The fixed point has (1 - mu) lambda in place of lambda."""
    M, g, solver = few(12, 6, 0), randn(12, seed=1), Spring(Dense("refuse"), 0.9)
    state = solver.init()
    for _ in range(200):
        solution, state = step(solver, state, Matrix(M), g, LAMBDA)
        assert torch.dot(g, solution.x) > 0 and not solution.scalars["solver/restarted"]
    assert close(solution.x, torch.linalg.solve(M + 0.1 * LAMBDA * eye(12), g), 1e-6)


def test_short_memory_cannot_turn_the_direction_downhill():
    """mu lambda |d_prev|_N < |g|_N is enough."""
    M, g = few(12, 6, 0), randn(12, seed=1)
    N = torch.linalg.inv(M + LAMBDA * eye(12))
    for seed in range(5):
        last = randn(12, seed=seed)
        last = last * 0.99 * (g @ N @ g).sqrt() / (0.9 * LAMBDA * (last @ N @ last).sqrt())
        solution = solve(Spring(Dense("refuse"), 0.9), Matrix(M), g, LAMBDA, {"of": {}, "direction": last})
        assert torch.dot(g, solution.x) > 0 and not solution.scalars["solver/restarted"]


def test_a_downhill_direction_is_left_and_memory_restarts():
    """There is a d_prev from which the half-plane is lost: then the solver's own direction is taken."""
    M, g, solver = few(12, 6, 0), randn(12, seed=1), Spring(Dense("refuse"), 0.9)
    last = -100 * g
    own = torch.linalg.solve(M + LAMBDA * eye(12), g)
    lost = torch.linalg.solve(M + LAMBDA * eye(12), g + 0.9 * LAMBDA * last)
    assert torch.dot(g, lost) < 0
    solution, state = step(solver, {"of": {}, "direction": last}, Matrix(M), g, LAMBDA)
    assert close(solution.x, own, 1e-9) and torch.equal(state["direction"], solution.x)
    assert solution.scalars["solver/restarted"] == 1


def test_a_rejected_step_remembers_nothing():
    case = make_case("sigma", weights="masked")
    solver = Spring(CG(3, 0.0, None, "warm", 0.9), 0.5)

    def update(rate: float) -> Update:
        parts = (Surrogate(0.0), Fisher(None, 0), solver, Constant(LAMBDA), Fixed(rate))
        return Update(case.network, case.head, *parts)

    theta, state, report = update(0.1)(case.theta, update(0.1).init(case.theta), case.samples)
    assert report.failure is None and state["solver"].keys() == {"of", "direction"}
    assert torch.equal(state["solver"]["of"]["x"], state["solver"]["direction"])
    before = bits(state)
    _, again, report = update(1e6)(theta, state, case.samples)
    assert report.scalars["step/accepted"] == 0 and bits(again) == before


@pytest.mark.parametrize("of", [Identity(), Power(-0.5), Compatible(), Spring(Dense("refuse"), 0.5)])
def test_what_solves_no_damped_system_is_refused(of):
    with pytest.raises(ValueError, match=r"of must be a solver of \(M \+ lambda I\) x = g; got"):
        Spring(of, 0.5)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_the_momentum_is_checked(momentum):
    with pytest.raises(ValueError, match="momentum must be 0 or above, and below 1"):
        Spring(Dense("refuse"), momentum)


def test_it_cannot_precondition_and_asks_what_the_solver_asks():
    solver = Spring(SOLVERS["gram"], 0.5)
    assert solver.requirements.one_rank and solver.requirements.needs_damping
    assert solver.needs == {"product", "root"}
    with pytest.raises(ValueError, match="preconditioner must be null or a solver that is linear"):
        CG(3, 0.0, solver, "cold", 0.0)
