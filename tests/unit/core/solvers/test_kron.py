"""PSGD's Kronecker factors against their definition and the derivative of its criterion; and where they come to."""

import pytest
import torch

from rlopt.core.solvers.kron import Kron, slopes
from tests.support.gradients import LAYOUT, MATRICES, flat, parts, root, series, walk
from tests.support.oracles import close, eye, randn

DAMPING = 0.01


def full(q: torch.Tensor) -> torch.Tensor:
    return q.diag() if q.ndim == 1 else q


def criterion(Ql: torch.Tensor, Qr: torch.Tensor, G: torch.Tensor, damping: float) -> torch.Tensor:
    """c(P) of one gradient, from P as a whole: vec by rows, so that P = P_L (x) P_R."""
    P = torch.kron(Ql.T @ Ql, Qr.T @ Qr)
    g = G.reshape(-1)
    return g @ P @ g + damping * P.trace() + torch.linalg.inv(P).trace()


def relative_gradient(side: int, Q: tuple[torch.Tensor, torch.Tensor], G: torch.Tensor) -> torch.Tensor:
    """-1/2 dc / dE where Q becomes (I - E) Q, on the upper triangle, by autograd."""
    E = torch.zeros_like(Q[side]).requires_grad_()
    moved = [(eye(len(q)) - E) @ q if i == side else q for i, q in enumerate(Q)]
    (slope,) = torch.autograd.grad(criterion(*moved, G, DAMPING), E)
    return torch.triu(-slope / 2)


def definition(gradients: list[torch.Tensor], rate: float, momentum: float) -> list[torch.Tensor]:
    Q, M, found = {}, {}, []
    for t, g in enumerate(gradients, 1):
        X = {}
        for name, part in parts(g).items():
            G = part.reshape(len(part), -1)
            M[name] = momentum * M.get(name, 0) + (1 - momentum) * G
            if name not in Q:
                scale = G.square().mean().sqrt() ** -0.25
                Q[name] = scale * eye(len(G)), scale * eye(G.shape[1])
            E = [relative_gradient(side, Q[name], G) for side in (0, 1)]
            if name not in MATRICES:
                E = [e.diagonal().diag() for e in E]
            sizes = [(e.abs().sum(0).max() * e.abs().sum(1).max()).sqrt() for e in E]
            Q[name] = tuple(q - rate / size * e @ q for q, e, size in zip(Q[name], E, sizes, strict=True))
            Ql, Qr = Q[name]
            X[name] = Ql.T @ Ql @ M[name] @ Qr.T @ Qr / (1 - momentum**t)
        found.append(flat(X))
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_it_is_the_definition(momentum):
    gradients = series(5)
    found, state = walk(Kron(0.2, momentum, 100), gradients, DAMPING)
    for solution, x in zip(found, definition(gradients, 0.2, momentum), strict=True):
        assert close(solution.x, x, 1e-10)
        assert solution.scalars == {"damping/value": DAMPING} and solution.damping == 0
    assert float(found[-1].quadratic) == pytest.approx(float(found[-1].x @ flat(state["momenta"])), rel=1e-12)
    for name in MATRICES:
        for q in state["factors"][name].values():
            assert torch.equal(q, torch.triu(q))


def test_the_first_direction_has_entries_of_mean_square_one():
    (g,) = series(1, 1e-3)
    x = walk(Kron(1e-9, 0.0, 100), [g], 0.0)[0][0].x
    for name in LAYOUT.names:
        assert float(parts(x)[name].square().mean()) == pytest.approx(1, rel=1e-6)


def test_steps_lower_the_criterion():
    (g,) = series(1)
    costs = []
    for count in (1, 20, 200):
        _, state = walk(Kron(0.05, 0.0, 100), [g] * count, DAMPING)
        factors = state["factors"]["2.weight"]
        costs.append(float(criterion(full(factors["L"]), full(factors["R"]), parts(g)["2.weight"], DAMPING)))
    assert costs[0] > costs[1] > costs[2]


def test_it_whitens_gradients_of_a_kronecker_covariance():
    """Where P = L^-1/2 (x) R^-1/2 the slopes of gradients with the covariance L (x) R are 0 in the mean; on the way
    there P L (x) R P comes near I."""
    L, R = (a @ a.T + 0.5 * eye(len(a)) for a in (0.5 * randn(5, 5, seed=1), 0.5 * randn(4, 4, seed=2)))
    Lh, Rh = root(L, 0.5), root(R, 0.5)
    Q = {"L": torch.linalg.cholesky(root(L, -0.5)).T, "R": torch.linalg.cholesky(root(R, -0.5)).T}
    every = [20**0.5 * torch.outer(a, b) for a in Lh for b in Rh]  # whose squares have the mean L (x) R
    for side in "LR":
        means = [slopes(Q, G, 0.0)[side] for G in every]
        assert close(torch.stack(means).mean(0), torch.zeros_like(means[0]), 1e-10)
        assert max(float(E.abs().max()) for E in means) > 1

    def whitened(count: int) -> float:
        gradients = []
        for i in range(count):
            g = torch.zeros(LAYOUT.size, dtype=torch.float64)
            g[LAYOUT.slices["2.weight"]] = (Lh @ randn(5, 4, seed=i) @ Rh).reshape(-1)
            gradients.append(g)
        q = walk(Kron(0.01, 0.0, 100), gradients, 0.0)[1]["factors"]["2.weight"]
        P = torch.kron(q["L"].T @ q["L"], q["R"].T @ q["R"])
        return float((P @ torch.kron(L, R) @ P - eye(20)).norm() / 20**0.5)

    assert whitened(1000) < 0.35 < 1 < whitened(1)


def test_factors_stay_equally_large():
    """Without it |Q_L| / |Q_R| grows by a factor of about e every 400 updates, in any precision."""
    generator, state = torch.Generator().manual_seed(0), None
    solver = Kron(0.1, 0.0, 100)
    for _ in range(2000):
        G = torch.randn(5, 2, generator=generator)
        state = solver._first(G) if state is None else solver._fitted(state, G, 1e-8)
    assert float(state["L"].norm() / state["R"].norm()) == pytest.approx(1, abs=1e-5)


def test_a_longer_side_has_a_diagonal():
    _, state = walk(Kron(0.1, 0.0, 3), series(2), DAMPING)
    assert {side: q.ndim for side, q in state["factors"]["0.weight"].items()} == {"L": 1, "R": 2}  # (4, 3)
    x = walk(Kron(0.1, 0.0, 3), series(2), DAMPING)[0][-1].x
    assert x.isfinite().all() and torch.dot(x, series(2)[-1]) > 0


def test_a_parameter_that_never_moved_stays():
    gradients = series(50)
    for g in gradients:
        g[LAYOUT.slices["0.weight"]] = 0
    found, state = walk(Kron(0.5, 0.9, 100), gradients, 1e-8)
    assert (found[-1].x[LAYOUT.slices["0.weight"]] == 0).all() and found[-1].x.isfinite().all()
    assert all(q.isfinite().all() for q in state["factors"]["0.weight"].values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((1.0, 0.9, 9), "rate must be above 0 and below 1; got 1.0"),
        ((0.1, 1.0, 9), "momentum must be 0 or above, and below 1"),
        ((0.1, 0.9, 0), "largest must be a whole number"),
    ],
)
def test_options_are_checked(options, says):
    with pytest.raises(ValueError, match=says):
        Kron(*options)
