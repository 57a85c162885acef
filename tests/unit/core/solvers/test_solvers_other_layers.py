"""Solvers by layers on networks with parameters of other kinds, against the dense Fisher matrix."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlopt.core import heads
from rlopt.core.network import Network
from tests.support.curvatures import LAMBDA, SOLVERS, block, diagonal, low_rank, solve
from tests.support.factors import EKFAC_NOW, EXACT, FACTORED, bind, inverse, matrix
from tests.support.modules import Normed, double, normed
from tests.support.oracles import Case, close, eye, fisher, jacobian, make_case, output_fisher, outputs, randn, share

HEAD = heads.DiagonalGaussian(2)
MODULES = {"residual": lambda: double(Normed()), "chain": lambda: normed(nn.SiLU)}
every_module = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


def case_of(make: Any) -> Case:
    module = make()
    network = Network(module, HEAD.constants)
    theta = network.layout.flatten(module, 0.3 * randn(2))
    return Case(module, network, HEAD, theta, make_case("log_sigma", weights="masked").samples)


def linear_layers(case: Case) -> set[str]:
    return {name for name, child in case.module.named_modules() if isinstance(child, nn.Linear)}


def places(case: Case) -> dict[str, Tensor]:
    """Where each parameter lies in theta; a Linear layer's weight and bias are one, by the layer's name."""
    linear, found = linear_layers(case), dict[str, list[Tensor]]()
    for name, at in case.network.layout.slices.items():
        layer = name.rpartition(".")[0]
        found.setdefault(layer if layer in linear else name, []).append(torch.arange(at.start, at.stop))
    return {name: torch.cat(parts) for name, parts in found.items()}


def block_diagonal(case: Case, blocks: dict[str, Tensor]) -> Tensor:
    M = torch.zeros(len(case.theta), len(case.theta), dtype=torch.float64)
    for name, at in places(case).items():
        M[at[:, None], at] = blocks[name]
    return M


def dense_blocks(case: Case) -> dict[str, Tensor]:
    F = fisher(case)
    return {name: F[at[:, None], at] for name, at in places(case).items()}


def kfac_blocks(case: Case) -> dict[str, Tensor]:
    """A (x) G of every Linear layer, from its inputs and dz/d bias; the Fisher's own block of everything else."""
    w, J, slices = share(case.samples), jacobian(case), case.network.layout.slices
    C = output_fisher(case.head, outputs(case.module, case.theta, case.samples.inputs))
    seen: dict[str, Tensor] = {}
    hooks = [
        child.register_forward_hook(lambda _, inputs, z, name=name: seen.update({name: inputs[0].detach()}))
        for name, child in case.module.named_modules()
        if isinstance(child, nn.Linear)
    ]
    outputs(case.module, case.theta, case.samples.inputs)
    for hook in hooks:
        hook.remove()
    blocks = dense_blocks(case)
    for name, a in seen.items():
        a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
        A, S = torch.einsum("b,bi,bj->ij", w, a, a), J[:, :, slices[f"{name}.bias"]]
        G = torch.einsum("b,boi,bop,bpj->ij", w, S, C, S)
        rows, n = torch.kron(G.contiguous(), A.contiguous()), len(A)
        order = torch.arange(len(rows)).view(-1, n)  # weight, then bias
        order = torch.cat([order[:, :-1].flatten(), order[:, -1]])
        blocks[name] = rows[order[:, None], order]
    return blocks


@every_module
def test_kfac_has_the_exact_blocks_of_other_parameters(make):
    case = case_of(make)
    assert close(matrix(EXACT, bind(case)), block_diagonal(case, kfac_blocks(case)), 1e-9)
    blocks, M = dense_blocks(case), matrix(EKFAC_NOW, bind(case))
    for name, at in places(case).items():
        if name not in linear_layers(case):
            assert close(M[at[:, None], at], blocks[name], 1e-9)
    assert torch.isfinite(inverse(FACTORED, bind(case))).all()


@every_module
def test_diagonal_and_block_are_parts_of_the_dense_fisher(make):
    case, g = case_of(make), randn(case_of(make).network.layout.size, seed=8)
    F, curvature = fisher(case), bind(case)
    assert close(solve(diagonal(), curvature, g, LAMBDA).x, g / (F.diagonal() + LAMBDA), 1e-9)
    blocks = block_diagonal(case, dense_blocks(case)) + LAMBDA * eye(len(g))
    assert close(solve(block("layer"), curvature, g, LAMBDA).x, torch.linalg.solve(blocks, g), 1e-8)
    found = solve(low_rank(200, remainder="diagonal"), curvature, g, LAMBDA).x
    assert close(found, torch.linalg.solve(F + LAMBDA * eye(len(g)), g), 1e-7)


@every_module
@pytest.mark.parametrize("by", ["incoming", "outgoing"])
def test_blocks_by_unit_split_other_parameters_too(make, by):
    """Incoming: each number by itself; outgoing: all of a parameter, as a layer's biases are."""
    case, g = case_of(make), randn(case_of(make).network.layout.size, seed=8)
    F, x = fisher(case), solve(block(by), bind(case), g, LAMBDA).x
    for name, at in places(case).items():
        if name not in linear_layers(case):
            own = F[at[:, None], at]
            own = own.diagonal().diag() if by == "incoming" else own
            assert close(x[at], torch.linalg.solve(own + LAMBDA * eye(len(at)), g[at]), 1e-9)


@every_module
def test_gram_is_the_dense_solution(make):
    case, g = case_of(make), randn(case_of(make).network.layout.size, seed=8)
    expected = torch.linalg.solve(fisher(case) + LAMBDA * eye(len(g)), g)
    assert close(solve(SOLVERS["gram"], bind(case), g, LAMBDA).x, expected, 1e-8)
