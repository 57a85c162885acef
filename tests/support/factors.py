"""Kronecker factors and the matrices made of them, dense: from torch.func's Jacobian and explicit loops."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rlopt.core.metrics.fisher import Fisher
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kfra import KFRA
from rlopt.core.tapes.autograd import AutogradTape
from tests.support import oracles
from tests.support.oracles import HEADS, Case, eye, share

LAMBDA = 1e-2
EXACT, FACTORED = KFAC("exact", 0.0, 1, 1), KFAC("factored", 0.0, 1, 1)
EKFAC_NOW, KFRA_NOW = EKFAC(0.0, 0.0, 1, 4), KFRA("exact", 0.0, 1)
ALL = {"kfac": EXACT, "factored": FACTORED, "ekfac": EKFAC_NOW, "kfra": KFRA_NOW}
every_solver = pytest.mark.parametrize("solver", ALL.values(), ids=ALL)
every_head = pytest.mark.parametrize("head", HEADS)


def bind(case: Case, tape: Any = None) -> Any:
    return Fisher(None, 0).bind({}, tape or case.tape, case.head, case.samples, None)[0]


def solve(solver: Any, curvature: Any, g: Tensor, damping: float = LAMBDA) -> Any:
    return solver.prepare(solver.init(), curvature, damping)[0](g)


def inverse(solver: Any, curvature: Any, damping: float = LAMBDA) -> Tensor:
    """(P, P) what the solver multiplies g by, one column at a time."""
    apply, _ = solver.prepare(solver.init(), curvature, damping)
    return torch.stack([apply(e).x for e in eye(curvature.size)], 1)


def matrix(solver: Any, curvature: Any) -> Tensor:
    """(P, P) the solver's own M."""
    return torch.linalg.inv(inverse(solver, curvature)) - LAMBDA * eye(curvature.size)


@dataclass(frozen=True)
class Spot:
    """One layer, by the names of its parameters: where they lie in theta, and how they make up a matrix (J, I)."""

    index: Tensor  # (J, I) places in theta, the bias in the last column
    constant: bool


def spots(case: Case) -> list[Spot]:
    order, found, place = torch.arange(len(case.theta)), [], 0
    pending: Tensor | None = None
    for name, p in case.module.named_parameters():
        here = order[place : place + p.numel()].reshape(p.shape)
        place += p.numel()
        if name.endswith("weight"):
            if pending is not None:
                found.append(Spot(pending, False))
            pending = here.flatten(1)
        else:
            assert pending is not None
            found.append(Spot(torch.cat([pending, here[:, None]], 1), False))
            pending = None
    if pending is not None:
        found.append(Spot(pending, False))
    if case.head.constants:
        found.append(Spot(order[place:, None], True))
    return found


def output_curvature(case: Case) -> Tensor:
    return oracles.output_fisher(case.head, oracles.outputs(case.module, case.theta, case.samples.inputs))


def layer_inputs(case: Case) -> list[Tensor]:
    """(B, I) of every Linear of a Sequential, with the bias's one, then the constants' one."""
    h, found = case.samples.inputs[:, : case.module[0].in_features], []
    for child in case.module:
        if isinstance(child, nn.Linear):
            found.append(torch.cat([h, torch.ones(len(h), 1, dtype=h.dtype)], 1))
        h = child(h).detach()
    return [*found, torch.ones(len(h), 1, dtype=h.dtype)]


def signal_matrices(case: Case) -> list[Tensor]:
    """(B, J, J) of every layer: (dz/ds)^T C (dz/ds), s what the layer puts out; dz/ds is dz/d bias."""
    J, C = oracles.jacobian(case), output_curvature(case)
    return [
        torch.einsum("boi,bop,bpj->bij", J[:, :, spot.index[:, -1]], C, J[:, :, spot.index[:, -1]])
        for spot in spots(case)
    ]


def dense_factors(case: Case) -> list[tuple[Tensor, Tensor]]:
    w = share(case.samples)
    pairs = zip(layer_inputs(case), signal_matrices(case), strict=False)
    return [(torch.einsum("b,bi,bj->ij", w, a, a), torch.einsum("b,bij->ij", w, S)) for a, S in pairs]


def assembled(case: Case, blocks: list[Tensor]) -> Tensor:
    """(P, P) from each layer's block in the order of its matrix (J, I) read row by row."""
    M = torch.zeros(len(case.theta), len(case.theta), dtype=torch.float64)
    for spot, block in zip(spots(case), blocks, strict=True):
        place = spot.index.flatten()
        M[place[:, None], place] = block
    return M


def blocks_of(case: Case, M: Tensor) -> list[Tensor]:
    places = [spot.index.flatten() for spot in spots(case)]
    return [M[place[:, None], place] for place in places]


def plain(case: Case) -> AutogradTape:
    return AutogradTape(case.module, case.network.layout, case.theta, case.samples.inputs)


def dense_kfac(case: Case) -> Tensor:
    return assembled(case, [torch.kron(G, A) for A, G in dense_factors(case)])
