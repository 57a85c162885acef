"""SOAP against its definition, written out; and against torch's Adam where nothing is turned."""

import pytest
import torch

from rlopt.core.solvers.shampoo import second_moments
from rlopt.core.solvers.soap import SOAP, _divided, basis, turned
from tests.support.gradients import LAYOUT, MATRICES, flat, parts, series, walk
from tests.support.oracles import close, randn

DAMPING = 1e-3


def definition(gradients: list[torch.Tensor], momentum: float, decay: float, basis: float):
    """X of every update, from means that are corrected for bias at the end, as the paper has them."""
    M, V, L, R, Q, found = {}, {}, {}, {}, {}, []
    for t, g in enumerate(gradients, 1):
        X = {}
        for name, G in parts(g).items():
            QL, QR = torch.eye(len(G), dtype=G.dtype), None
            M[name] = momentum * M.get(name, 0) + (1 - momentum) * G
            if name in MATRICES:
                L[name] = basis * L.get(name, 0) + (1 - basis) * G @ G.T
                R[name] = basis * R.get(name, 0) + (1 - basis) * G.T @ G
                Q[name] = [torch.linalg.eigh(S[name])[1].flip(1) for S in (L, R)]
                QL, QR = Q[name]
            own = QL.T @ G if QR is None else QL.T @ G @ QR
            V[name] = decay * V.get(name, 0) + (1 - decay) * own**2
            m = QL.T @ M[name] if QR is None else QL.T @ M[name] @ QR
            N = m / (1 - momentum**t) / ((V[name] / (1 - decay**t)).sqrt() + DAMPING)
            X[name] = QL @ N if QR is None else QL @ N @ QR.T
        found.append(flat(X))
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_it_is_the_definition(momentum):
    gradients = series(6)
    found, state = walk(SOAP(momentum, 0.9, 0.7, 1, 100), gradients, DAMPING)
    for solution, x in zip(found, definition(gradients, momentum, 0.9, 0.7), strict=True):
        assert close(solution.x, x, 1e-10)
    m = flat({name: moments["m"] for name, moments in state["moments"].items()})
    assert float(found[-1].quadratic) == pytest.approx(float(found[-1].x @ m), rel=1e-12)


def test_without_a_turned_side_it_is_torchs_adam():
    theta = torch.zeros(LAYOUT.size, dtype=torch.float64)
    optimizer = torch.optim.Adam([theta], lr=1.0, betas=(0.8, 0.95), eps=DAMPING)
    gradients = series(5)
    found, _ = walk(SOAP(0.8, 0.95, 0.9, 1, 1), gradients, DAMPING)
    for g, solution in zip(gradients, found, strict=True):
        before, theta.grad = theta.clone(), -g
        optimizer.step()
        assert close(solution.x, theta - before, 1e-12)


def test_bases_stay_for_as_many_updates_as_told():
    gradients, solver, found = series(5), SOAP(0.5, 0.9, 0.9, 2, 100), []
    for count in range(1, 6):
        _, state = walk(solver, gradients[:count], DAMPING)
        found.append(state["bases"]["2.weight"]["R"])
        D = found[-1].T @ state["sides"]["2.weight"]["R"] @ found[-1]
        assert close(D, D.diagonal().diag(), 1e-10) == (count % 2 == 1)
        if count % 2:
            assert (D.diagonal().diff() < 0).all()  # the largest first
    assert [torch.equal(a, b) for a, b in zip(found, found[1:], strict=False)] == [True, False, True, False]


def test_it_depends_on_no_basis_of_inputs_or_outputs():
    """G -> U G W^T turns X likewise."""
    solver, (g, h) = SOAP(0.0, 0.9, 0.9, 1, 100), series(2)
    U, W = (torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0] for n in (5, 4))

    def last(turn) -> torch.Tensor:
        found = []
        for x in (g, h):
            x = x.clone()
            x[LAYOUT.slices["2.weight"]] = turn(parts(x)["2.weight"]).reshape(-1)
            found.append(x)
        return parts(walk(solver, found, DAMPING)[0][-1].x)["2.weight"]

    assert close(last(lambda G: U @ G @ W.T), U @ last(lambda G: G) @ W.T, 1e-7)


def test_no_direction_of_the_gradient_is_lost():
    """In float32, with singular values over four decades: Q is orthogonal, so G' has all of G."""
    U, V = (torch.linalg.qr(randn(64, 64, seed=seed))[0] for seed in (1, 2))
    G = ((U * torch.logspace(0, -4, 64, dtype=torch.float64)) @ V.T).float()
    bases = {side: basis(S, "w") for side, S in second_moments(G, 100).items()}
    for Q in bases.values():
        assert close(Q.T @ Q, torch.eye(64), 1e-5)
    assert close(turned(turned(G, bases), bases, back=True), G, 1e-5)
    turned_once = turned(G, bases)
    X = turned(_divided(turned_once, turned_once.square(), 1e-8, 2**-11.5), bases, back=True)
    assert int((torch.linalg.svdvals(X) > 0.5).sum()) > 50


def test_what_comes_after_a_first_basis_of_rank_one_is_kept():
    """With refresh > 1 a later gradient need not lie in the span of the first, here e_1 e_1^T."""
    g, h = (torch.zeros(LAYOUT.size, dtype=torch.float64) for _ in range(2))
    g[LAYOUT.slices["2.weight"].start], h[LAYOUT.slices["2.weight"]] = 1.0, randn(20, seed=3)
    x = walk(SOAP(0.0, 0.9, 0.9, 10, 100), [g, h], DAMPING)[0][-1].x[LAYOUT.slices["2.weight"]]
    assert (x != 0).all() and int(torch.linalg.matrix_rank(x.view(5, 4))) == 4


def test_a_parameter_that_never_moved_stays():
    gradients = series(3)
    for g in gradients:
        g[LAYOUT.slices["0.weight"]] = 0
    for damping in (0.0, DAMPING):
        x = walk(SOAP(0.9, 0.9, 0.9, 1, 100), gradients, damping)[0][-1].x
        assert x.isfinite().all() and (x[LAYOUT.slices["0.weight"]] == 0).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((1.0, 0.9, 0.9, 1, 9), "momentum must be 0 or above, and below 1; got 1.0"),
        ((0.9, -0.1, 0.9, 1, 9), "decay must be 0 or above"),
        ((0.9, 0.9, 1.0, 1, 9), "basis_decay must be 0 or above"),
        ((0.9, 0.9, 0.9, 0, 9), "refresh must be a whole number"),
        ((0.9, 0.9, 0.9, 1, 0), "largest must be a whole number"),
    ],
)
def test_options_are_checked(options, says):
    with pytest.raises(ValueError, match=says):
        SOAP(*options)
