import math

import pytest
import torch

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import Given
from rlopt.core.solvers.power import Power
from tests.support.building import resolve
from tests.support.curvatures import solve
from tests.support.oracles import close, eye, randn

ADAGRAD = Power(-0.5)


def history(updates: int, size: int) -> torch.Tensor:
    return torch.stack([randn(size, seed=i) for i in range(updates)])


@pytest.mark.parametrize("exponent", [-0.5, -1.0, -0.25])
@pytest.mark.parametrize("updates", [3, 9])
def test_the_full_power_is_that_of_the_matrix(updates, exponent):
    G, g, damping = history(updates, 5), randn(5, seed=40), 0.1
    M = G.T @ G
    solution = solve(Power(exponent), Given(M), g, damping)
    mu, Q = torch.linalg.eigh(M + damping * eye(5))
    assert close(solution.x, Q @ torch.diag(mu**exponent) @ Q.T @ g, 1e-10)
    own = Q @ torch.diag(mu**-exponent) @ Q.T
    assert solution.damping == 0 and solution.residual < 1e-12
    assert float(solution.quadratic) == pytest.approx(float(solution.x @ own @ solution.x), rel=1e-9)


def test_minus_one_half_twice_is_the_inverse():
    G, g = history(7, 5), randn(5, seed=40)
    M = G.T @ G
    twice = solve(ADAGRAD, Given(M), solve(ADAGRAD, Given(M), g, 0.1).x, 0.1).x
    assert close(twice, torch.linalg.solve(M + 0.1 * eye(5), g), 1e-10)


def test_the_diagonal_power_is_adagrad():
    """torch's own Adagrad, whose accumulator starts at lambda and whose eps is 0, makes the same steps."""
    damping, theta = 0.1, torch.zeros(4, dtype=torch.float64)
    optimizer = torch.optim.Adagrad([theta], lr=1.0, initial_accumulator_value=damping, eps=0.0)
    total = torch.zeros(4, dtype=torch.float64)
    for update in range(5):
        g, before = randn(4, seed=update), theta.clone()
        total = total + g * g
        solution = solve(ADAGRAD, Given(total), g, damping)
        theta.grad = -g
        optimizer.step()
        assert close(solution.x, theta - before, 1e-10)
        own = (total + damping).sqrt()
        assert float(solution.quadratic) == pytest.approx(float(solution.x @ (own * solution.x)), rel=1e-9)


def test_the_first_undamped_full_step_is_the_normalised_gradient():
    g = randn(6)
    solution = solve(ADAGRAD, Given(torch.outer(g, g)), g, 0.0)
    assert close(solution.x, g / g.norm(), 1e-10) and solution.residual < 1e-7


@pytest.mark.parametrize("form", ["full", "diagonal"])
def test_without_damping_entries_that_never_moved_stay(form):
    G = history(3, 4) * torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    entries = G.T @ G if form == "full" else G.square().sum(0)
    solution = solve(ADAGRAD, Given(entries), G[0], 0.0)
    assert (solution.x[[1, 3]].abs() < 1e-12).all() and solution.x.isfinite().all() and solution.residual < 1e-7
    off = G[0] + 1e-3 * eye(4)[1]
    assert not solve(ADAGRAD, Given(entries), off, 0.0).x.isfinite().all()
    assert solve(ADAGRAD, Given(entries), off, 0.1).x.isfinite().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("form", ["full", "diagonal"])
def test_a_history_that_is_no_number_gives_no_direction(form, bad):
    entries = eye(3) if form == "full" else torch.ones(3, dtype=torch.float64)
    entries[1] = bad
    try:
        x = solve(ADAGRAD, Given(entries), randn(3), 0.1).x
    except NumericalFailure:
        return
    assert not x.isfinite().all()


def test_a_negative_matrix_has_no_power():
    for entries in (-eye(3), torch.tensor([1.0, -1.0])):
        with pytest.raises(NumericalFailure, match="negative eigenvalue"):
            solve(ADAGRAD, Given(entries), randn(3), 0.1)


@pytest.mark.parametrize("exponent", [0.0, -1.5, 0.5, math.nan])
def test_the_exponent_is_checked(exponent):
    with pytest.raises(ValueError, match="exponent must be -1 or above and below 0"):
        Power(exponent)


def test_the_usual_damping_leaves_adagrad_what_it_is():
    """Gradients of length .05, as policies have them: at lambda = .1 the step was the plain gradient's."""
    usual = resolve(["metric=gradient_history", "solver=power"])["damping"]["value"]
    G = history(8, 30) * torch.logspace(0, -2, 30, dtype=torch.float64)
    G = 0.05 * G / G.norm(dim=1, keepdim=True)
    g, M = G[-1], G.T @ G
    _, s, Vh = torch.linalg.svd(G, full_matrices=False)
    adagrad = Vh.T @ ((Vh @ g) / s)

    def cosine(damping, to):
        return float(torch.nn.functional.cosine_similarity(solve(ADAGRAD, Given(M), g, damping).x, to, 0))

    assert cosine(usual, adagrad) > 1 - 1e-6
    assert cosine(0.1, g) > 0.9999 > 0.99 > cosine(usual, g)
    assert solve(ADAGRAD, Given(M), g, usual).scalars == {"damping/value": usual}
