"""Muon against its definition, by singular values, and against torch.optim.Muon; vectors against torch's Adam."""

import pytest
import torch

from rlopt.core.solvers.muon import Muon, orthogonalised
from tests.support.gradients import LAYOUT, MATRICES, parts, series, walk
from tests.support.oracles import close, randn

JORDAN, CONVERGING = (3.4445, -4.7750, 2.0315), (1.875, -1.25, 0.375)
DAMPING = 1e-3


def muon(momentum=0.9, nesterov=True, iterations=5, coefficients=JORDAN, scale="spectral", layers="all"):
    return Muon(momentum, nesterov, iterations, coefficients, scale, layers, (0.8, 0.95))


def by_singular_values(U: torch.Tensor, iterations: int, coefficients: tuple[float, float, float]) -> torch.Tensor:
    left, s, right = torch.linalg.svd(U, full_matrices=False)
    s, (a, b, c) = s / s.norm(), coefficients
    for _ in range(iterations):
        s = a * s + b * s**3 + c * s**5
    return left @ torch.diag(s) @ right


@pytest.mark.parametrize("coefficients", [JORDAN, CONVERGING])
@pytest.mark.parametrize("shape", [(5, 4), (4, 7), (3, 3), (1, 6)])
def test_iterations_act_on_singular_values(shape, coefficients):
    U = randn(*shape)
    for iterations in (0, 1, 5):
        wanted = by_singular_values(U, iterations, coefficients)
        assert close(orthogonalised(U, iterations, coefficients), wanted, 1e-10)


def test_enough_iterations_give_the_polar_factor():
    U = randn(6, 4)
    left, _, right = torch.linalg.svd(U, full_matrices=False)
    assert close(orthogonalised(U, 30, CONVERGING), left @ right, 1e-12)
    assert close(orthogonalised(1e-6 * U, 30, CONVERGING), left @ right, 1e-12)


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_is_the_definition(momentum, nesterov):
    gradients, B = series(4), dict.fromkeys(MATRICES, 0.0)
    found, _ = walk(muon(momentum, nesterov), gradients, DAMPING)
    for g, solution in zip(gradients, found, strict=True):
        inner = 0.0
        for name in MATRICES:
            G = parts(g)[name]
            B[name] = momentum * B[name] + (1 - momentum) * G
            U = momentum * B[name] + (1 - momentum) * G if nesterov else B[name]
            X = max(1.0, len(G) / G.shape[1]) ** 0.5 * by_singular_values(U, 5, JORDAN)
            assert close(parts(solution.x)[name], X, 1e-10)
            inner += float((X * U).sum())
        vectors = [name for name in LAYOUT.names if name not in MATRICES]
        assert float(solution.quadratic) > inner > 0 and len(vectors) == 3


def test_matrices_are_torchs_muon_but_for_its_bfloat16():
    """torch iterates in bfloat16, with 8 bits; its vectors are another optimizer's."""
    thetas = [torch.zeros(shape, dtype=torch.float64) for shape in MATRICES.values()]
    options = {"momentum": 0.9, "weight_decay": 0.0, "lr": 1.0}
    for scale, name in (("spectral", "original"), ("rms", "match_rms_adamw")):
        optimizer = torch.optim.Muon(thetas, adjust_lr_fn=name, **options)
        gradients = series(4)
        for g, solution in zip(gradients, walk(muon(scale=scale), gradients, DAMPING)[0], strict=True):
            before = [theta.clone() for theta in thetas]
            for theta, matrix in zip(thetas, MATRICES, strict=True):
                theta.grad = -parts(g)[matrix]
            optimizer.step()
            for theta, old, matrix in zip(thetas, before, MATRICES, strict=True):
                assert close(parts(solution.x)[matrix], theta - old, 0.05)


def test_matrices_are_torchs_muon_where_it_keeps_all_bits(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda x: x.clone())
    thetas = [torch.zeros(shape, dtype=torch.float64) for shape in MATRICES.values()]
    optimizer = torch.optim.Muon(thetas, lr=1.0, momentum=0.9, weight_decay=0.0)
    gradients = series(4)
    for g, solution in zip(gradients, walk(muon(), gradients, DAMPING)[0], strict=True):
        before = [theta.clone() for theta in thetas]
        for theta, matrix in zip(thetas, MATRICES, strict=True):
            theta.grad = -parts(g)[matrix]
        optimizer.step()
        for theta, old, matrix in zip(thetas, before, MATRICES, strict=True):
            assert close(parts(solution.x)[matrix], theta - old, 1e-10)


@pytest.mark.parametrize("layers", ["all", "hidden"])
def test_what_is_no_matrix_is_torchs_adam(layers):
    theta = torch.zeros(LAYOUT.size, dtype=torch.float64)
    optimizer = torch.optim.Adam([theta], lr=1.0, betas=(0.8, 0.95), eps=DAMPING)
    gradients = series(4)
    by_adam = set(LAYOUT.names) - ({"1.weight"} if layers == "hidden" else set(MATRICES))
    for g, solution in zip(gradients, walk(muon(layers=layers), gradients, DAMPING)[0], strict=True):
        before, theta.grad = theta.clone(), -g
        optimizer.step()
        for name in LAYOUT.names:
            alike = close(solution.x[LAYOUT.slices[name]], (theta - before)[LAYOUT.slices[name]], 1e-12)
            assert alike == (name in by_adam)


def test_rms_makes_entries_as_large_as_adams():
    """With all singular values 1 the mean square of an entry is 0.04."""
    gradients = series(2)
    solution = walk(muon(scale="rms", iterations=30, coefficients=CONVERGING), gradients, DAMPING)[0][-1]
    for name in MATRICES:
        assert float(parts(solution.x)[name].square().mean().sqrt()) == pytest.approx(0.2, rel=1e-9)


def test_units_of_the_gradient_do_not_matter():
    plain, other = (walk(muon(), series(3, scale), 0.0)[0][-1].x for scale in (1.0, 2.0**20))
    assert close(plain, other, 1e-12)


def test_a_parameter_that_never_moved_stays():
    gradients = series(3)
    for g in gradients:
        g[LAYOUT.slices["0.weight"]] = 0
        g[LAYOUT.slices["0.bias"]] = 0
    x = walk(muon(), gradients, 0.0)[0][-1].x
    assert x.isfinite().all()
    assert (x[LAYOUT.slices["0.weight"]] == 0).all() and (x[LAYOUT.slices["0.bias"]] == 0).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"momentum": 1.0}, "momentum must be 0 or above, and below 1; got 1.0"),
        ({"iterations": -1}, "iterations must be a finite number, 0 or above"),
        ({"coefficients": (1.0, 2.0)}, "coefficients must be three numbers"),
        ({"scale": "none"}, "scale must be rms or spectral"),
        ({"layers": "first"}, "layers must be all or hidden"),
    ],
)
def test_options_are_checked(options, says):
    with pytest.raises(ValueError, match=says):
        muon(**options)
    with pytest.raises(ValueError, match="decays must be"):
        Muon(0.9, True, 5, JORDAN, "rms", "all", (0.9,))
