"""K-FAC, E-KFAC and KFRA against dense matrices made from torch.func's Jacobian and explicit loops."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rlopt.core.network import Network
from rlopt.core.tapes.autograd import AutogradTape
from tests.support.factors import (
    EKFAC_NOW,
    EXACT,
    FACTORED,
    KFRA_NOW,
    LAMBDA,
    assembled,
    bind,
    blocks_of,
    every_head,
    every_solver,
    matrix,
    solve,
)
from tests.support.oracles import HEADS, TAPES, close, eye, fisher, make_case, mlp, randn


@every_solver
@pytest.mark.parametrize("head", ["categorical", "sigma"])
def test_both_tapes_give_the_same_statistics(head, solver):
    case = make_case(head, weights="masked")
    by_autograd = AutogradTape(case.module, case.network.layout, case.theta, case.samples.inputs)
    g = randn(len(case.theta))
    if solver is KFRA_NOW:
        with pytest.raises(ValueError, match="activation derivatives"):
            solve(solver, bind(case, by_autograd), g)
        return
    a, b = solve(solver, bind(case, by_autograd), g), solve(solver, bind(case), g)
    assert close(a.x, b.x, 1e-10) and close(a.quadratic, b.quadratic, 1e-10)


@every_solver
@pytest.mark.parametrize("tape", TAPES)
def test_a_solution_reports_its_own_matrix(solver, tape):
    case = make_case("log_sigma", tape if solver is not KFRA_NOW else "mlp", "masked")
    M, g = (
        matrix(replace(solver, **({"damping": "exact"} if solver is FACTORED else {})), bind(case)),
        randn(len(case.theta), seed=3),
    )
    solution = solve(solver, bind(case), g)
    assert float(solution.quadratic) == pytest.approx(float(solution.x @ M @ solution.x), rel=1e-8)
    assert solution.damping == LAMBDA and solution.iterations == 0
    assert solution.residual < 1e-12
    if solver is not FACTORED:
        assert float((g - M @ solution.x - LAMBDA * solution.x).norm() / g.norm()) < 1e-9
    zero = solve(solver, bind(case), torch.zeros_like(g))
    assert (zero.x == 0).all() and zero.residual == 0 and zero.quadratic == 0


@every_solver
@every_head
def test_every_direction_points_uphill(head, solver):
    for seed in range(3):
        case = make_case(head, weights="masked", seed=seed)
        g = randn(len(case.theta), seed=seed)
        assert torch.dot(g, solve(solver, bind(case), g).x) > 0


@every_head
@pytest.mark.parametrize("solver", [EXACT, EKFAC_NOW, KFRA_NOW])
def test_one_linear_layer_and_one_sample_are_exact(head, solver):
    case = make_case(head, count=1, hidden=())
    assert close(matrix(solver, bind(case)), assembled(case, blocks_of(case, fisher(case))), 1e-10)


@pytest.mark.parametrize("solver", [EXACT, KFRA_NOW])
@pytest.mark.parametrize("head", ["log_sigma", "sigma", "value"])
def test_one_linear_layer_of_constant_curvature_is_exact(head, solver):
    case = make_case(head, weights="masked", hidden=())
    assert close(matrix(solver, bind(case)), fisher(case), 1e-10)
    g = randn(len(case.theta))
    truth = torch.linalg.solve(fisher(case) + LAMBDA * eye(len(g)), g)
    assert close(solve(solver, bind(case), g).x, truth, 1e-9)


@pytest.mark.parametrize("solver", [EXACT, KFRA_NOW])
@pytest.mark.parametrize("head", ["log_sigma", "value"])
def test_every_block_of_a_deep_linear_net_is_exact(head, solver):
    head = HEADS[head]
    module = mlp((3, 4, 5, head.network_outputs))
    module = nn.Sequential(*[child for child in module if isinstance(child, nn.Linear)])
    network = Network(module, head.constants)
    theta = network.layout.flatten(module, 0.3 * randn(head.constants))
    base = make_case(head, weights="masked")
    case = replace(base, module=module, network=network, theta=theta)
    assert close(matrix(solver, bind(case)), assembled(case, blocks_of(case, fisher(case))), 1e-10)
