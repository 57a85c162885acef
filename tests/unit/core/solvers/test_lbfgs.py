"""L-BFGS against the update of the dense inverse."""

import pytest
import torch
from torch import Tensor

from rlopt.core.metrics.hessian import Hessian
from rlopt.core.network import Network
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.parts import GRADIENT
from rlopt.core.solvers.lbfgs import LBFGS
from rlopt.errors import UserError
from tests.support.building import resolve
from tests.support.curvatures import Matrix, is_true, solve, step
from tests.support.oracles import TAPES, Case, bits, close, eye, gradient, make_case, randn
from tests.support.two_ranks import Ranks, halves


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
    M, damping, solver = A @ A.T / 8, 0.3, LBFGS(3, 1e-8, "products")
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
    solver, (a, b) = LBFGS(5, 1e-8, "products"), eye(3)[:2]
    _, state = step(solver, solver.init(), Matrix(M), a)
    first, state = step(solver, state, Matrix(M), b)
    assert torch.equal(first.x, b) and first.scalars["solver/pairs"] == 0
    second, _ = step(solver, state, Matrix(M), b)
    assert close(second.x, b / 2, 1e-12) and second.scalars["solver/pairs"] == 1
    damped = solve(solver, Matrix(M), a, 1.5, state)  # enough to make the first direction's curvature positive
    assert damped.scalars["solver/pairs"] == 2 and close(damped.x, a / 0.5, 1e-12)


def hessian(case: Case, objective):
    return Hessian().bind({}, case.tape, case.head, case.samples, objective)[0]


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", ["log_sigma", "categorical", "value"])
def test_pairs_of_gradients_are_the_dense_bfgs_recursion(head, tape):
    """Every update has samples of its own; both gradients of a pair are of the newer ones, by autograd."""
    first, damping, solver = make_case(head, tape, moved=0.2), 3.0, LBFGS(3, 1e-8, "gradients")
    name, objective = ("value", Value()) if head == "value" else ("surrogate", Surrogate(0.0))
    state, theta, before, pairs = solver.init(), first.theta, None, []
    for i in range(6):
        samples = make_case(head, tape, "masked", seed=30 + i, moved=0.2).samples
        case = Case(first.module, first.network, first.head, theta, samples)
        g, kept = randn(len(theta), seed=i), bits(state)
        if before is not None:
            s, old = theta - before, Case(first.module, first.network, first.head, before, samples)
            pairs.append((s, gradient(old, name) - gradient(case, name) + damping * s))
        solution, new = step(solver, state, hessian(case, objective), g, damping)
        assert bits(state) == kept
        used = pairs[-3:]
        assert all(s @ y > 1e-8 * s.norm() * y.norm() for s, y in used) and solution.scalars.get("solver/pairs") == len(
            used
        )
        H = bfgs(used) if used else eye(len(g))
        assert close(solution.x, H @ g, 1e-8)
        if used:
            assert is_true(solution, torch.linalg.inv(H) - damping * eye(len(g)), g)
        # the step that was taken is not x: it was shortened, or another direction altogether
        state, before, theta = new, theta, theta + 0.1 * randn(len(theta), seed=50 + i)


def test_a_pair_of_gradients_without_curvature_is_passed_over():
    """Without a step there is no pair; with a small one it has the Hessian's curvature, here negative somewhere."""
    case, objective, solver = make_case("log_sigma", moved=0.2), Surrogate(0.0), LBFGS(5, 1e-8, "gradients")
    M = hessian(case, objective).dense()
    mu, Q = torch.linalg.eigh(M)
    assert mu[0] < -0.1 < 0.1 < mu[-1]
    for along, counts in ((0 * Q[:, 0], 0), (Q[:, 0], 0), (Q[:, -1], 1)):
        old = Case(case.module, case.network, case.head, case.theta - 1e-3 * along, case.samples)
        g = randn(len(mu), seed=7)
        _, state = step(solver, solver.init(), hessian(old, objective), g)
        solution, _ = step(solver, state, hessian(case, objective), g)
        assert solution.scalars["solver/pairs"] == counts
        assert torch.equal(solution.x, g) == (counts == 0)


def test_pairs_of_gradients_are_for_a_metric_that_has_a_gradient():
    assert LBFGS(3, 1e-8, "gradients").needs == {GRADIENT} <= Hessian().supplies
    says = "solver=lbfgs cannot serve metric=fisher: it needs metric=hessian. These can: .*lbfgs with solver.pairs=products"
    with pytest.raises(UserError, match=says):
        resolve(["algo=trpo", "solver=lbfgs", "solver.pairs=gradients"])
    resolve(["algo=newton", "solver=lbfgs", "solver.pairs=gradients"])
    with pytest.raises(ValueError, match="pairs must be products or gradients"):
        LBFGS(3, 1e-8, "steps")


def test_the_gradients_of_two_ranks_are_those_of_all_samples(monkeypatch):
    case, objective, ranks = make_case("log_sigma", moved=0.2), Surrogate(0.0), Ranks()
    parts, other = halves(case), case.theta + 0.1
    monkeypatch.setattr("rlopt.core.metrics.hessian.all_sum", ranks.all_sum)

    def one(i: int) -> Tensor:
        network = Network(case.module, case.head.constants)
        own = Case(case.module, network, case.head, case.theta.clone(), parts[i])
        return hessian(own, objective).gradient(other)

    whole = -gradient(Case(case.module, case.network, case.head, other, case.samples), "surrogate")
    assert all(close(found, whole, 1e-12) for found in ranks.run(one))
