"""K-FAC, E-KFAC and KFRA against dense matrices made from torch.func's Jacobian and explicit loops."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

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
    dense_factors,
    every_head,
    every_solver,
    inverse,
    matrix,
    output_curvature,
    solve,
)
from tests.support.oracles import HEADS, TAPES, WEIGHTS, Case, close, eye, fisher, make_case, mlp, randn, share


def dense_kfac(case: Case) -> Tensor:
    return assembled(case, [torch.kron(G, A) for A, G in dense_factors(case)])


def dense_factored_inverse(case: Case, lam: float) -> Tensor:
    blocks = []
    for A, G in dense_factors(case):
        a, g = A.trace() / len(A), G.trace() / len(G)
        pi = math.sqrt(a / g) if a > 0 and g > 0 else 1.0
        damped_A, damped_G = A + pi * math.sqrt(lam) * eye(len(A)), G + math.sqrt(lam) / pi * eye(len(G))
        blocks.append(torch.linalg.inv(torch.kron(damped_G, damped_A)))
    return assembled(case, blocks)


def dense_ekfac(case: Case) -> Tensor:
    """Q diag(Q^T F Q) Q^T of every layer's exact block, Q the eigenbasis of the dense factors."""
    blocks = []
    for (A, G), F in zip(dense_factors(case), blocks_of(case, fisher(case)), strict=True):
        Q = torch.kron(torch.linalg.eigh(G)[1], torch.linalg.eigh(A)[1])
        blocks.append(Q @ (Q.T @ F @ Q).diagonal().diag() @ Q.T)
    return assembled(case, blocks)


def dense_kfra(case: Case) -> Tensor:
    """Botev et al.'s recursion with explicit loops over units; f' by autograd, C by the head's own KL."""
    w, C, children = share(case.samples), output_curvature(case), list(case.module)
    C = torch.einsum("b,bij->ij", w, C)
    width = children[-1].weight.shape[0]
    G, found, h, slopes = C[:width, :width], [], case.samples.inputs, {}
    for i, child in enumerate(children):
        s = h.detach().requires_grad_()
        h = child(s)
        if not isinstance(child, nn.Linear):
            (slopes[i],) = torch.autograd.grad(h.sum(), s)
    for i in reversed(range(len(children))):
        child = children[i]
        if isinstance(child, nn.Linear):
            found.append(G)
            W = child.weight.detach()
            back = torch.zeros(W.shape[1], W.shape[1], dtype=torch.float64)
            for p in range(W.shape[1]):
                for q in range(W.shape[1]):
                    back[p, q] = sum(W[j, p] * G[j, k] * W[k, q] for j in range(len(W)) for k in range(len(W)))
            G = back
        else:
            f = slopes[i]
            G = G.clone()
            for p in range(len(G)):
                for q in range(len(G)):
                    G[p, q] *= sum(w[b] * f[b, p] * f[b, q] for b in range(len(w)))
    Gs = found[::-1] + ([C[width:, width:]] if case.head.constants else [])
    return assembled(case, [torch.kron(G, A) for (A, _), G in zip(dense_factors(case), Gs, strict=True)])


@pytest.mark.parametrize("weights", WEIGHTS)
@every_head
def test_kfac_is_the_kronecker_product_of_its_dense_factors(head, weights):
    case = make_case(head, weights=weights, count=9)
    assert close(matrix(EXACT, bind(case)), dense_kfac(case), 1e-10)
    assert close(inverse(FACTORED, bind(case)), dense_factored_inverse(case, LAMBDA), 1e-10)


@pytest.mark.parametrize("weights", WEIGHTS)
@every_head
def test_ekfac_is_each_blocks_diagonal_in_kfacs_basis_and_nearer(head, weights):
    case = make_case(head, weights=weights, count=60)
    found = matrix(EKFAC_NOW, bind(case))
    assert close(found, dense_ekfac(case), 1e-9)
    exact = assembled(case, blocks_of(case, fisher(case)))
    assert (found - exact).norm() <= (dense_kfac(case) - exact).norm() * (1 + 1e-12)
    assert (found - dense_kfac(case)).norm() > 1e-6 * exact.norm()  # or nothing was compared


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.Sigmoid])
@every_head
def test_kfra_is_the_recursion_written_out_in_loops(head, activation):
    case = make_case(head, weights="masked", count=9, activation=activation)
    assert close(matrix(KFRA_NOW, bind(case)), dense_kfra(case), 1e-10)


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
