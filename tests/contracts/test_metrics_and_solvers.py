"""The contract of every allowed pair of metric and solver, found through conf/, against dense matrices in float64.

A metric's matrix is the one that tests/unit/core/metrics/test_metrics.py proves by differentiation. Exact solvers must solve its whole
system; the others the system of their own definition, written out here with dense matrices from each sample's gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from rlopt.config.choices import parts
from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part
from rlopt.core import heads
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.requirements import Requirements
from rlopt.core.tapes.masked import MaskedTape
from tests.support import oracles
from tests.support.curvatures import blocks_of, groups, rows
from tests.support.factors import assembled, layer_inputs, spots
from tests.support.masking import allowed, masked_case
from tests.support.oracles import Case, close, eye, make_case, randn, share

HEADS = ("log_sigma", "sigma", "categorical", "value", "action masks")
EXACT = {"dense", "cg", "gram", "low_rank", "identity", "kaczmarz", "nystrom", "spring"}
OPTIONS = {  # with which a solver goes to its limit
    "cg": {"iterations": 600, "tolerance": 1e-14},
    "low_rank": {"rank": 300, "products": 300},
    "kaczmarz": {"block": 6, "sweeps": 300},
    "nystrom": {"rank": 300},
    "spring": {"of": {**read_choice("solver", "cg"), "iterations": 600, "tolerance": 1e-14}},
}
NEEDED = {"mahalanobis": {"diagonal": 2.0}}


def part(group: str, name: str, **options: Any) -> Any:
    return construct_part({**read_choice(group, name), **options}, group)


METRICS = {name: part("metric", name, **NEEDED.get(name, {})) for name in parts("metric")}
SOLVERS = {name: part("solver", name, **OPTIONS.get(name, {})) for name in parts("solver")}
PAIRS = [(m, s) for m in METRICS for s in SOLVERS if SOLVERS[s].needs <= METRICS[m].supplies]


@cache
def bound(metric: str, head: str) -> tuple[Case, Any, Tensor, float]:
    """A case, the metric's curvature there, its matrix M, and a lambda with which M + lambda I is positive definite."""
    if head == "action masks":
        case = masked_case(heads.Categorical(4), hidden=(4,), count=11)
    else:
        case = make_case(head, weights="masked", count=11, hidden=(4,), moved=0.2)
    objective = Value() if head == "value" else Surrogate(0.0)
    curvature, _ = METRICS[metric].bind(METRICS[metric].init(), case.tape, case.head, case.samples, objective)
    M = curvature.dense()
    return case, curvature, M, 0.05 + 2 * max(0.0, -float(torch.linalg.eigvalsh(M)[0]))


def factors(case: Case, curvature: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Every layer's A (I, I) and G (J, J), and each sample's own factors (K, B, J, I)."""
    R, w, found = rows(case, curvature.root()), share(case.samples), []
    for spot, a in zip(spots(case), layer_inputs(case), strict=False):
        d = R[:, :, spot.index[:, -1]]  # a bias's gradient is the layer's signal
        A, G = torch.einsum("b,bi,bj->ij", w, a, a), torch.einsum("b,kbi,kbj->ij", w, d, d)
        found.append((A.contiguous(), G.contiguous(), R[:, :, spot.index]))
    return found


def kfac(case: Case, curvature: Any, M: Tensor) -> Tensor:
    return assembled(case, [torch.kron(G, A) for A, G, _ in factors(case, curvature)])


def ekfac(case: Case, curvature: Any, M: Tensor) -> Tensor:
    blocks = []
    for A, G, own in factors(case, curvature):
        Q = torch.kron(torch.linalg.eigh(G)[1], torch.linalg.eigh(A)[1])
        squares = (own.flatten(2) @ Q).square()
        blocks.append(Q @ torch.einsum("b,kbp->p", share(case.samples), squares).diag() @ Q.T)
    return assembled(case, blocks)


def kfra(case: Case, curvature: Any, M: Tensor) -> Tensor:
    """Mean signals' second moments sent back through the layers by mean derivatives, from the mean of C."""
    U, w = curvature.root(), share(case.samples)
    if isinstance(case.tape, MaskedTape):
        U = U * allowed(case)  # dz / dtheta is 0 elsewhere
    C = torch.einsum("b,kbi,kbj->ij", w, U, U).contiguous()
    linears = [child for child in case.module if hasattr(child, "weight")]
    width = linears[-1].weight.shape[0]
    G, found = C[:width, :width], []
    inputs = layer_inputs(case)
    for i in reversed(range(len(linears))):
        found.append(G)
        if i:
            slope = 1 - inputs[i][:, :-1] ** 2  # tanh
            W = linears[i].weight.detach()
            G = (W.T @ G @ W) * torch.einsum("b,bp,bq->pq", w, slope, slope)
    Gs = [G.contiguous() for G in found[::-1]] + ([C[width:, width:].contiguous()] if case.head.constants else [])
    return assembled(case, [torch.kron(G, A) for (A, _, _), G in zip(factors(case, curvature), Gs, strict=True)])


def by_singular_values(case: Case, g: Tensor, matrix: Callable[[Tensor], Tensor], vector: Callable[[Tensor], Tensor],
                       scale: Callable[[int, int], float] = lambda rows, columns: 1.0) -> Tensor:  # fmt: skip
    """(P,) U f(s) V^T for every matrix U s V^T of g, and f(v) for every vector v."""
    found = []
    for part in case.network.layout.views(g).values():
        if part.ndim == 1:
            found.append(vector(part))
            continue
        U, s, Vh = torch.linalg.svd(part, full_matrices=False)
        found.append(scale(*part.shape) * (U * matrix(s)) @ Vh)
    return torch.cat([part.flatten() for part in found])


def newton_schulz(s: Tensor) -> Tensor:
    s, (a, b, c) = s / s.norm(), SOLVERS["muon"].coefficients
    for _ in range(SOLVERS["muon"].iterations):
        s = a * s + b * s**3 + c * s**5
    return s


FIRST: dict[str, Callable[[Case, Tensor, float], Tensor]] = {  # the direction before anything has been learned
    "shampoo": lambda case, g, lam: by_singular_values(
        case, g, lambda s: s / (s**2 + lam).sqrt(), lambda v: v / (v @ v + lam).sqrt()
    ),
    "soap": lambda case, g, lam: by_singular_values(case, g, lambda s: s / (s + lam), lambda v: v / (v.abs() + lam)),
    "muon": lambda case, g, lam: by_singular_values(
        case, g, newton_schulz, lambda v: v / (v.abs() + lam), lambda rows, columns: 0.2 * max(rows, columns) ** 0.5
    ),
}
WITHIN = {"identity", "power", "shampoo", "soap", "muon", "kron"}  # which have lambda within their own matrix


DEFINITIONS: dict[str, Callable[[Case, Any, Tensor], Tensor]] = {
    "diagonal": lambda case, curvature, M: M.diagonal().diag(),
    "block": lambda case, curvature, M: blocks_of(M, groups(case, SOLVERS["block"].by)),
    "kfac": kfac,
    "ekfac": ekfac,
    "kfra": kfra,
}


def reference(metric: str, solver: str, head: str, g: Tensor) -> tuple[Tensor, float] | None:
    """The direction that the pair must give, and within what; None where its definition is not a fixed matrix."""
    case, curvature, M, lam = bound(metric, head)
    if solver == "identity":
        return g, 0.0
    if solver in FIRST:
        return FIRST[solver](case, g, lam), 1e-10
    if solver == "power":
        mu, Q = torch.linalg.eigh(M + lam * eye(len(M)))
        return Q @ (Q.T @ g * mu ** SOLVERS["power"].exponent), 1e-8
    if solver in EXACT:
        return torch.linalg.solve(M + lam * eye(len(M)), g), 1e-8
    if solver in DEFINITIONS:
        return torch.linalg.solve(DEFINITIONS[solver](case, curvature, M) + lam * eye(len(M)), g), 1e-10
    return None


MORE = ("softplus", "beta", "full_gaussian", "gsde", "product")
LONG = [(metric, "kaczmarz", head) for metric in METRICS if metric != "fisher" for head in MORE]
CASES = [
    pytest.param(*case, marks=[pytest.mark.learning] if case in LONG else [])
    for case in ((*pair, head) for pair in PAIRS for head in (*HEADS, *MORE))
]


@pytest.mark.parametrize(("metric", "solver", "head"), CASES)
def test_every_allowed_pair_keeps_its_contract(metric, solver, head):
    _, curvature, M, lam = bound(metric, head)
    g = randn(len(M), seed=7)
    kept, state = g.clone(), SOLVERS[solver].init()
    solve, _ = SOLVERS[solver].prepare(state, curvature, lam)
    solution = solve(g)
    assert torch.equal(g, kept) and state == SOLVERS[solver].init()
    assert torch.dot(g, solution.x) > 0
    wanted = reference(metric, solver, head, g)
    if wanted is not None:
        x, tolerance = wanted
        assert close(solution.x, x, tolerance)
        assert solution.damping == lam or solver in WITHIN


def test_the_definitions_are_not_one_another():
    """Or the contract would be kept by any of them."""
    found = {name: reference("fisher", name, "categorical", randn(31, seed=7)) for name in [*DEFINITIONS, "dense"]}
    names = list(found)
    for i, a in enumerate(names):
        for b in names[:i]:
            assert not close(found[a][0], found[b][0], 1e-3), (a, b)


def test_dampings_and_steps_are_found_through_their_yaml():
    """Each is made of its own file and keeps the least that an update asks of it."""
    theta = torch.zeros(3, dtype=torch.float64)
    for name in parts("damping"):
        damping = part("damping", name)
        state = damping.init()
        assert damping.current(state) >= 0
        assert damping.adapt(state, {"damping/agreement": 1.0, "step/accepted": 1.0}).keys() == state.keys()
    for name in parts("step"):
        if name == "optimizer":  # whose options stand in groups of their own, see tests/unit/core/steps/test_steps.py
            continue
        values = {key: value for key, value in read_choice("step", name).items() if key != "scheduler"}  # a group's
        step = construct_part(values, "step")
        state = step.init(theta)
        assert step.advance(state).keys() == state.keys()
        assert isinstance(step.requirements, Requirements) and isinstance(step.adaptive, bool)


def test_every_head_of_the_contract_is_there():
    assert {*HEADS, *MORE} <= {*oracles.HEADS, *oracles.MORE_HEADS, "action masks"}
