"""What K-FAC, E-KFAC and KFRA keep between updates: averages of the factors, and eigenbases of some age."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rlopt.core import heads
from rlopt.core.network import Network
from rlopt.core.solvers.ekfac import EKFAC
from rlopt.core.solvers.kfac import KFAC
from rlopt.core.solvers.kfra import KFRA
from rlopt.core.solvers.kronecker import factors as kronecker
from tests.support.factors import EXACT, FACTORED, LAMBDA, bind, dense_factors, every_head, plain, solve
from tests.support.oracles import TAPES, Case, bits, close, make_case, mlp, randn


def drifting(count: int) -> list[Case]:
    case = make_case("categorical", weights="masked")
    return [replace(case, theta=case.theta + 0.2 * i * randn(len(case.theta), seed=i)) for i in range(count)]


def moved(case: Case) -> Case:
    """The same case with theta written into a module of its own, which the dense factors read."""
    module = mlp((3, 5, 4, case.head.network_outputs))
    place = 0
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(case.theta[place : place + p.numel()].reshape(p.shape))
            place += p.numel()
    return replace(case, module=module)


@pytest.mark.parametrize(
    "make", [lambda d: KFAC("exact", d, 1, 1), lambda d: EKFAC(d, 0.0, 1, 4)], ids=["kfac", "ekfac"]
)
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.95])
def test_factors_are_weighted_means_with_the_first_batch_in_full(make, decay):
    solver, cases = make(decay), [moved(case) for case in drifting(4)]
    state, seen = solver.init(), []
    for n, case in enumerate(cases):
        before = bits(state)
        _, new = solver.prepare(state, bind(case), LAMBDA)
        assert bits(state) == before
        state = new
        seen.append(dense_factors(case))
        weights = [decay ** (n - i) for i in range(n + 1)]
        for layer, factor in enumerate(state["factors"].values()):
            for side, name in enumerate("AG"):
                mean = sum(w * past[layer][side] for w, past in zip(weights, seen, strict=True)) / sum(weights)
                assert close(factor[name], mean, 1e-12)


def test_eigenbases_are_renewed_at_every_refresh_and_kept():
    solver, state, kept = KFAC("exact", 0.5, 3, 1), None, []
    for case in drifting(7):
        _, state = solver.prepare(solver.init() if state is None else state, bind(case), LAMBDA)
        kept.append(bits(state["basis"]))
    assert kept[0] == kept[1] == kept[2] != kept[3] == kept[4] == kept[5] != kept[6]


def test_a_kept_basis_solves_with_the_factors_it_was_made_of():
    first, second = drifting(2)
    solver = KFAC("exact", 0.0, 2, 1)
    _, state = solver.prepare(solver.init(), bind(first), LAMBDA)
    apply, _ = solver.prepare(state, bind(second), LAMBDA)
    g = randn(len(first.theta))
    assert close(apply(g).x, solve(EXACT, bind(first), g).x, 1e-12)


@every_head
@pytest.mark.parametrize("lam", [1e-4, 1.0])
def test_factored_damping_by_inverses_is_that_by_eigenvalues(head, lam):
    case, g = make_case(head, weights="masked"), randn(len(make_case(head).theta), seed=9)
    a, b = (solve(solver, bind(case), g, lam) for solver in (FACTORED, KFAC("factored", 0.0, 2, 1)))
    assert close(a.x, b.x, 1e-10) and close(a.quadratic, b.quadratic, 1e-10) and a.damping == b.damping == lam
    assert a.residual < 1e-11


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("damping", ["exact", "factored"])
def test_between_measurements_factors_stay_and_lambda_changes(damping, tape):
    cases, g = drifting(4), randn(len(drifting(1)[0].theta))
    solver, every = KFAC(damping, 0.5, 1, 3), KFAC(damping, 0.5, 1, 1)
    state, first = solver.init(), every.init()
    _, first = every.prepare(first, bind(cases[0]), LAMBDA)
    for case, lam in zip(cases[:3], (LAMBDA, LAMBDA, 0.5), strict=True):
        before = bits(state)
        apply, new = solver.prepare(state, bind(case, plain(case) if tape == "autograd" else None), lam)
        assert bits(state) == before
        state = new
        assert bits(state["factors"]) == bits(first["factors"]) or tape == "autograd"
        assert close(apply(g).x, solve(every, bind(cases[0]), g, lam).x, 1e-12)
        assert apply(g).damping == lam
    _, state = solver.prepare(state, bind(cases[3]), LAMBDA)
    _, both = every.prepare(first, bind(cases[3]), LAMBDA)
    assert close(state["factors"]["0.weight"]["A"], both["factors"]["0.weight"]["A"], 1e-12)  # the first and the fourth


def test_layer_shapes_are_found_from_the_factors():
    module = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2))
    head = heads.DiagonalGaussian(2)
    network = Network(module, head.constants)
    base = make_case("log_sigma")
    theta = network.layout.flatten(module.double(), head.initial_constants().double())
    case = replace(base, module=module, network=network, head=head, theta=theta)
    shapes, values = kronecker.statistics(bind(case), kronecker.factors)
    state = kronecker.average(kronecker.init(), shapes, values, 0.0)
    assert kronecker.layer_shapes(network.layout, state["factors"]) == shapes


def test_ekfacs_eigenvalues_are_averaged_while_a_basis_lasts():
    solver, cases, g = EKFAC(0.0, 0.5, 3, 4), drifting(4), randn(len(drifting(1)[0].theta))
    state, plain, scales = solver.init(), EKFAC(0.0, 0.0, 10, 4), []
    plain_state = plain.init()
    for case in cases:
        _, state = solver.prepare(state, bind(case), LAMBDA)
        _, plain_state = plain.prepare(plain_state, bind(case), LAMBDA)
        scales.append((state["scales"], plain_state["scales"]))
    for name in scales[0][0]:
        now = [both[1][name] for both in scales]
        assert torch.equal(scales[0][0][name], now[0])
        assert close(scales[1][0][name], (now[1] + 0.5 * now[0]) / 1.5, 1e-12)
        assert close(scales[2][0][name], (now[2] + 0.5 * now[1] + 0.25 * now[0]) / 1.75, 1e-12)
        assert not close(now[0], now[1], 1e-3)
    _, fresh = solver.prepare(solver.init(), bind(cases[3]), LAMBDA)
    assert bits(state["scales"]) == bits(fresh["scales"])  # the fourth call began a new basis
    assert solve(solver, bind(cases[0]), g).x.isfinite().all()


def test_kfra_averages_and_refreshes_as_kfac_does():
    first, second = drifting(2)
    solver = KFRA("factored", 0.5, 1)
    _, state = solver.prepare(solver.init(), bind(first), LAMBDA)
    _, both = solver.prepare(state, bind(second), LAMBDA)
    _, alone = solver.prepare(solver.init(), bind(second), LAMBDA)
    for name, factor in both["factors"].items():
        for side in "AG":
            old, new = state["factors"][name][side], alone["factors"][name][side]
            assert close(factor[side], (new + 0.5 * old) / 1.5, 1e-12)
