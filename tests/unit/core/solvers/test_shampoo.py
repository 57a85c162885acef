"""Shampoo against its definition, written out with numpy's eigenvalues; and what follows from it."""

import pytest
import torch

from rlopt.core.checks import NumericalFailure
from rlopt.core.solvers.shampoo import Shampoo, power, second_moments
from tests.support.gradients import LAYOUT, MATRICES, flat, parts, root, series, walk
from tests.support.oracles import close, eye, randn

DAMPING = 1e-3


def definition(gradients: list[torch.Tensor], decay: float | None, exponent: float) -> torch.Tensor:
    """X of the last gradient, from sums over all."""
    count, found = len(gradients), {}
    weights = [1.0 if decay is None else decay ** (count - 1 - i) for i in range(count)]
    if decay is not None:
        weights = [w / sum(weights) for w in weights]
    for name in LAYOUT.names:
        Gs = [parts(g)[name] for g in gradients]
        if Gs[0].ndim == 1:
            L = sum(w * torch.outer(G, G) for w, G in zip(weights, Gs, strict=True))
            found[name] = root(L + DAMPING * eye(len(L)), 2 * exponent) @ Gs[-1]
            continue
        L, R = (sum(w * f(G) for w, G in zip(weights, Gs, strict=True)) for f in (lambda G: G @ G.T, lambda G: G.T @ G))
        found[name] = root(L + DAMPING * eye(len(L)), exponent) @ Gs[-1] @ root(R + DAMPING * eye(len(R)), exponent)
    return flat(found)


@pytest.mark.parametrize("exponent", [-0.25, -0.5])
@pytest.mark.parametrize("decay", [None, 0.0, 0.7])
def test_it_is_the_definition(decay, exponent):
    gradients = series(5)
    found, _ = walk(Shampoo(decay, exponent, 1, 100), gradients, DAMPING)
    for i, solution in enumerate(found):
        x = definition(gradients[: i + 1], decay, exponent)
        assert close(solution.x, x, 1e-10)
        assert float(solution.quadratic) == pytest.approx(float(x @ gradients[i]), rel=1e-9)
        assert solution.damping == 0 and solution.scalars == {"damping/value": DAMPING}
        assert torch.dot(gradients[i], solution.x) > 0


def test_the_first_undamped_step_has_all_singular_values_one():
    (g,) = series(1)
    ((solution,), _) = walk(Shampoo(None, -0.25, 1, 100), [g], 0.0)
    for name, X in parts(solution.x).items():
        G = parts(g)[name]
        if name in MATRICES:
            U, _, Vh = torch.linalg.svd(G, full_matrices=False)
            assert close(X, U @ Vh, 1e-7)
        else:
            assert close(X, G / G.norm(), 1e-7)


@pytest.mark.parametrize("damping", [0.0, 1e-8])
def test_small_singular_values_do_not_grow_beyond_others(damping):
    """The first X of G = U S V^T is U f(S) V^T with f <= 1, S over four decades in float32."""
    U, V = (torch.linalg.qr(randn(64, 64, seed=seed))[0] for seed in (1, 2))
    S = torch.logspace(0, -4, 64, dtype=torch.float64)
    G = ((U * S) @ V.T).float()
    L, R = second_moments(G, 100).values()
    s = torch.linalg.svdvals((power(L, damping, -0.25, "w") @ G @ power(R, damping, -0.25, "w")).double())
    assert float(s.max()) < 1.05 and float(s.min()) > 1e-3
    assert int((s > 0.5).sum()) >= 40


def test_a_longer_side_has_its_diagonal_alone():
    gradients = series(3)
    found, _ = walk(Shampoo(None, -0.25, 1, 3), gradients, DAMPING)
    Gs = [parts(g)["0.weight"] for g in gradients]  # (4, 3)
    L, R = sum((G**2).sum(1) for G in Gs), sum(G.T @ G for G in Gs)
    X = ((L + DAMPING) ** -0.25)[:, None] * Gs[-1] @ root(R + DAMPING * eye(3), -0.25)
    assert close(parts(found[-1].x)["0.weight"], X, 1e-10)
    vectors = [parts(g)["0.bias"] for g in gradients]
    assert close(parts(found[-1].x)["0.bias"], vectors[-1] * (sum(v**2 for v in vectors) + DAMPING) ** -0.5, 1e-10)


def test_powers_stay_for_as_many_updates_as_told():
    gradients = series(4)
    often, rarely = (walk(Shampoo(0.9, -0.25, refresh, 100), gradients, DAMPING)[0] for refresh in (1, 3))
    same = [torch.equal(a.x, b.x) for a, b in zip(often, rarely, strict=True)]
    assert same == [True, False, False, True]


def test_a_parameter_that_never_moved_stays():
    gradients = series(3)
    for g in gradients:
        g[LAYOUT.slices["0.weight"]] = 0
    for damping in (0.0, DAMPING):
        x = walk(Shampoo(0.9, -0.25, 1, 100), gradients, damping)[0][-1].x
        assert x.isfinite().all() and (x[LAYOUT.slices["0.weight"]] == 0).all()


def test_units_of_the_gradient_do_not_matter_with_sums_or_means():
    for decay in (None, 0.9):
        plain, other = (walk(Shampoo(decay, -0.25, 1, 100), series(3, s), 0.0)[0][-1].x for s in (1.0, 2.0**10))
        assert close(plain, other, 1e-7)


def test_a_gradient_that_is_no_number_gives_no_direction():
    (g,) = series(1)
    g[0] = torch.nan
    with pytest.raises(NumericalFailure, match="were not found"):
        walk(Shampoo(0.9, -0.25, 1, 100), [g], DAMPING)
    assert not walk(Shampoo(0.9, -0.25, 1, 1), [g], DAMPING)[0][0].x.isfinite().all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((1.0, -0.25, 1, 9), "decay must be null, or 0 or above and below 1; got 1.0"),
        ((0.9, 0.25, 1, 9), "exponent must be -0.5 or above, and below 0; got 0.25"),
        ((0.9, -0.25, 0, 9), "refresh must be a whole number"),
        ((0.9, -0.25, 1, 0), "largest must be a whole number"),
    ],
)
def test_options_are_checked(options, says):
    with pytest.raises(ValueError, match=says):
        Shampoo(*options)
