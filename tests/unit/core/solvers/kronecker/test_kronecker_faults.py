"""K-FAC, E-KFAC and KFRA where a factor is singular, ill-conditioned or not finite."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kfra import KFRA
from rlopt.core.solvers.kronecker import factors as kronecker
from tests.support import oracles
from tests.support.factors import LAMBDA, bind, dense_factors, every_solver, solve
from tests.support.oracles import Case, bits, close, fisher, make_case, randn


def dead(case: Case) -> Case:
    """The case with no way from its first layer to the outputs: that layer's G is zero."""
    theta = case.theta.clone()
    theta[case.network.layout.slices["2.weight"]] = 0
    return replace(case, theta=theta)


@every_solver
@pytest.mark.parametrize("lam", [0.0, 1e-6, 0.1])
def test_a_dead_layer_leaves_every_number_finite(solver, lam):
    case = dead(make_case("categorical"))
    curvature, g = bind(case), oracles.gradient(case, "surrogate")
    solution = solve(solver, curvature, g, lam)
    assert solution.x.isfinite().all() and float(solution.residual) < 1e-3
    assert (solution.x[case.network.layout.slices["0.weight"]] == 0).all()
    solution = solve(solver, curvature, torch.ones_like(g), lam)
    assert solution.x.isfinite().all() and torch.dot(solution.x, torch.ones_like(g)) > 0


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_sample_is_solved_with_the_least_damping_that_holds(solver, dtype):
    case = single(make_case("categorical", count=1), dtype)
    g = oracles.gradient(case, "surrogate")
    curvature = bind(case)
    solution = solve(solver, curvature, g, 0.0)
    assert solution.x.isfinite().all() and torch.dot(g, solution.x) >= 0
    assert 0 < float(solution.damping) < 1e-3 * float(curvature.dense().diagonal().max())
    assert float(solution.residual) < 0.1


def single(case: Case, dtype: torch.dtype) -> Case:
    s = case.samples
    cast = {
        name: value.to(dtype) for name, value in vars(s).items() if torch.is_tensor(value) and value.is_floating_point()
    }
    cast.pop("share", None)
    return replace(case, module=case.module.to(dtype), theta=case.theta.to(dtype), samples=replace(s, **cast))


@every_solver
@pytest.mark.parametrize("lam", [0.0, 1e-3])
def test_float32_at_condition_1e8_reports_the_residual(solver, lam):
    case = make_case("categorical", count=50)
    scales = torch.tensor([1e4, 1.0, 1e-4], dtype=torch.float64)
    case = replace(case, samples=replace(case.samples, inputs=case.samples.inputs * scales))
    assert torch.linalg.cond(dense_factors(case)[0][0]) > 1e8
    case = single(case, torch.float32)
    g = oracles.gradient(case, "surrogate")
    solution = solve(solver, bind(case), g, lam)
    assert solution.x.dtype == torch.float32 and solution.x.isfinite().all()
    assert torch.dot(g, solution.x) > 0
    assert solution.residual.isfinite() and float(solution.damping) >= lam


@every_solver
def test_no_damping_is_kept_where_every_factor_is_regular(solver):
    case = make_case("value", count=50, hidden=())
    M, g = fisher(case), randn(len(case.theta))
    solution = solve(solver, bind(case), g, 0.0)
    assert solution.damping == 0.0
    assert close(solution.x, torch.linalg.solve(M, g), 1e-8)


@every_solver
def test_a_zero_matrix_without_damping_fails_by_name(solver):
    case = make_case("categorical")
    nothing = replace(bind(case), root=lambda samples: torch.zeros(1, 17, 3, dtype=torch.float64))
    with pytest.raises(NumericalFailure, match="start from a larger damping"):
        solve(solver, nothing, torch.ones_like(case.theta), 0.0)
    assert close(solve(solver, nothing, torch.ones_like(case.theta), 0.5).x, 2 * torch.ones_like(case.theta), 1e-12)


@every_solver
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_statistics_that_are_not_finite_fail_and_keep_the_state(solver, bad):
    case = make_case("categorical")
    _, state = solver.prepare(solver.init(), bind(case), LAMBDA)
    before = bits(state)
    inputs = case.samples.inputs.clone()
    inputs[3, 1] = bad
    poisoned = replace(case, samples=replace(case.samples, inputs=inputs))
    with pytest.raises(NumericalFailure, match="not finite"):
        solver.prepare(state, bind(poisoned), LAMBDA)
    assert bits(state) == before


def test_a_failed_eigendecomposition_is_repeated_then_given_up(monkeypatch):
    matrix, eigh, asked = torch.diag(torch.tensor([1.0, 2.0, 0.0])), torch.linalg.eigh, []

    def fails(times: int):
        asked.clear()

        def fake(x: Tensor):
            asked.append(x)
            if len(asked) <= times:
                raise torch.linalg.LinAlgError("no")
            return eigh(x)

        monkeypatch.setattr(torch.linalg, "eigh", fake)

    fails(1)
    values, Q = kronecker.eigen(matrix, "layer")
    assert asked[1].dtype == torch.float64 and values.dtype == Q.dtype == torch.float32
    assert (asked[1].diagonal() > matrix.diagonal()).all()
    assert torch.allclose(values, torch.tensor([0.0, 1.0, 2.0]), atol=1e-6)
    fails(2)
    with pytest.raises(NumericalFailure, match="Kronecker factor of layer"):
        kronecker.eigen(matrix, "layer")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: KFAC("neither", 0.0, 1, 1), "damping must be exact or factored; got 'neither'"),
        (lambda: KFAC("exact", 1.0, 1, 1), "decay must be 0 or above, and below 1; got 1.0"),
        (lambda: KFRA("exact", 0.0, 0), "refresh must be a whole number"),
        (lambda: EKFAC(math.nan, 0.0, 1, 4), "decay must be"),
        (lambda: EKFAC(0.0, -0.1, 1, 4), "scale_decay must be"),
    ],
)
def test_options_outside_their_range_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()
