"""What must hold of every structured and iterative solver on whatever it is given: never silently wrong."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlopt.core.checks import NumericalFailure
from rlopt.core.heads import Value
from rlopt.core.network import Network
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense, factorise_blocks
from rlopt.core.solvers.gram import Gram
from rlopt.core.solvers.lbfgs import LBFGS
from tests.support.curvatures import LAMBDA, SOLVERS, Matrix, bound, cg, diagonal, is_true, matrix, solve, step
from tests.support.oracles import HEADS, TAPES, Case, close, eye, make_case, randn

EXACT = ("dense", "dense_absolute", "dense_shift", "cg", "cg_diagonal", "cg_block", "full_rank", "gram", "kaczmarz",
         "cg_kaczmarz", "cg_nystrom", "spring_cg")  # fmt: skip
NEED_DAMPING = ("gram", "gram_layer", "kaczmarz", "cg_kaczmarz")
every_solver = pytest.mark.parametrize("name", SOLVERS)


def answered(name: str, case: Case, U: Tensor, g: Tensor, damping: float) -> bool:
    """Whether there is a direction: then what is reported of it is true, and small where the system is well damped."""
    try:
        solution = solve(SOLVERS[name], bound(case, U), g, damping)
    except NumericalFailure:
        return False
    if not solution.x.isfinite().all():
        return False
    if damping == LAMBDA:
        assert solution.residual < 1e-9
    if name in EXACT:
        assert is_true(solution, matrix(case, U), g)
    assert solution.damping >= damping
    return True


@given(
    seed=st.integers(0, 10_000),
    damping=st.floats(1e-4, 10.0),
    scale=st.floats(1e-3, 1e3),
    head=st.sampled_from(list(HEADS)),
    tape=st.sampled_from(TAPES),
)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_direction_lies_in_the_gradients_half_plane(seed, damping, scale, head, tape):
    case = make_case(head, tape, "masked", count=8, seed=seed, hidden=(4,))
    curvature = bound(case, scale * randn(2, *case.tape.outputs.shape, seed=seed + 50))
    g = randn(len(case.theta), seed=seed + 60)
    for name, solver in {**SOLVERS, "cg_short": cg(3, 0.0), "cg_propagation": short_cg()}.items():
        state = solver.init()
        for _ in range(3):
            solution, state = step(solver, state, curvature, g, damping)
            assert torch.dot(g, solution.x) > 0, name
            g = g + 0.3 * randn(len(g), seed=seed + 70)


def short_cg() -> CG:
    return CG(3, 0.0, diagonal("curvature_propagation"), "cold", 0.0)


@pytest.mark.parametrize("seed", range(6))
def test_of_an_indefinite_matrix_too_where_a_solver_promises_it(seed):
    M, g = randn(6, 6, seed=seed), randn(6, seed=seed + 10)
    M = M + M.T
    for solver in (Dense("absolute"), Dense("shift"), cg(20, 0.0), LBFGS(3, 1e-8, "products"), diagonal("hutchinson")):
        state = solver.init()
        for _ in range(4):
            solution, state = step(solver, state, Matrix(M), g, LAMBDA)
            assert torch.dot(g, solution.x) > 0


@pytest.mark.parametrize("damping", [0.0, LAMBDA])
@pytest.mark.parametrize("weights", ["uniform", "masked"])
@every_solver
def test_a_sample_that_is_no_number_gives_no_direction(name, weights, damping):
    case = make_case("categorical", weights=weights)
    g = randn(len(case.theta))
    for sample, bad in ((0, math.nan), (4, math.nan), (4, math.inf)):  # sample 0 has no weight when masked
        U = randn(2, 17, 3, seed=4)
        U[1, sample, 2] = bad
        if name == "lbfgs":  # which multiplies nothing before its second update
            _, state = step(SOLVERS[name], {}, bound(case, randn(2, 17, 3)), g, damping)
            assert not solve(SOLVERS[name], bound(case, U), g, damping, state).x.isfinite().all()
        else:
            assert not answered(name, case, U, g, damping)


@every_solver
def test_a_gradient_that_is_no_number_gives_no_direction(name):
    case = make_case("categorical")
    g = randn(len(case.theta))
    g[3] = math.nan
    assert not answered(name, case, randn(2, 17, 3, seed=4), g, LAMBDA)


def degenerate(kind: str) -> tuple[Case, Tensor]:
    """A case and its factors, most of which make M singular."""
    if kind == "one parameter":
        module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        samples = make_case("value", weights="masked").samples
        samples = samples.replacing(inputs=samples.inputs[:, :1])
        return Case(module, Network(module), Value(), torch.full((1,), 0.7).double(), samples), randn(2, 17, 1)
    case = make_case("log_sigma", weights="masked")
    U = randn(2, 17, 4, seed=4)
    if kind in ("one sample", "duplicated samples"):
        index = torch.ones(1 if kind == "one sample" else 17, dtype=torch.long)
        return replace(case, samples=case.samples.take(index)), U[:, index]
    if kind == "all-zero layer":  # nothing is sent back through it, and all below it has no curvature
        theta = case.theta.clone()
        theta[case.network.layout.slices["4.weight"]] = 0
        return replace(case, theta=theta), U
    return case, 0 * U if kind == "no curvature" else U


@pytest.mark.parametrize("damping", [0.0, 1e-12, LAMBDA])
@pytest.mark.parametrize(
    "kind", ["one parameter", "one sample", "duplicated samples", "all-zero layer", "no curvature", "singular"]
)
@every_solver
def test_degenerate_systems_are_solved_or_refused(name, kind, damping):
    case, U = degenerate(kind)
    M, P = matrix(case, U), len(case.theta)
    within, anywhere = M @ randn(P, seed=1), randn(P, seed=2)
    answers = [answered(name, case, U, g, damping) for g in (within, anywhere)]
    if damping == LAMBDA:
        assert all(answers)
    if kind == "one parameter" and (damping or name not in NEED_DAMPING):
        assert all(answers)


@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "lbfgs"])
def test_without_curvature_or_damping_there_is_no_direction(name):
    case, U = degenerate("no curvature")
    try:
        solution = solve(SOLVERS[name], bound(case, U), randn(len(case.theta)), 0.0)
    except NumericalFailure:
        return
    # conjugate gradient returns the gradient, and says why
    flagged = "cg" in name and solution.scalars["solver/negative_curvature"]
    assert flagged or not solution.x.isfinite().all()


def test_gram_needs_damping():
    case = make_case("categorical")
    for damping in (0.0, -1.0, math.nan, torch.zeros(())):
        with pytest.raises(NumericalFailure, match="the Gram matrix needs damping above 0"):
            solve(Gram(100, "network"), bound(case, randn(2, 17, 3)), randn(len(case.theta)), damping)


@pytest.mark.parametrize("indefinite", ["refuse", "absolute", "shift"])
def test_what_rounding_has_taken_is_no_pivot(indefinite):
    """Condition 1e8 in float32: the least eigenvalues are noise, and lambda is raised above them and reported."""
    Q, _ = torch.linalg.qr(randn(12, 12))
    M = (Q @ torch.diag(torch.logspace(0, -8, 12, dtype=torch.float64)) @ Q.T).float()
    g = randn(12).float()
    solution = solve(Dense(indefinite), Matrix((M + M.T) / 2), g, 0.0)
    assert solution.damping > 0
    assert solution.residual < 1e-2 and torch.dot(g, solution.x) > 0


def test_blocks_are_factorised_with_one_damping():
    good, bad = torch.stack([eye(2), 2 * eye(2)]), -0.05 * eye(3)[None]
    (first, second), used = factorise_blocks([good, bad], 1e-3)
    assert float(used) == pytest.approx(0.1)
    assert close(first @ first.mT, good + 0.1 * eye(2), 1e-12) and close(second @ second.mT, bad + 0.1 * eye(3), 1e-12)
    with pytest.raises(NumericalFailure, match="not finite"):
        factorise_blocks([good, bad * math.nan], 1e-3)


@every_solver
def test_single_precision_gives_the_same_in_single_precision(name):
    case, solver = make_case("sigma", weights="masked"), SOLVERS[name]
    if name.startswith("cg"):
        solver = CG(60, 1e-5, solver.preconditioner, "cold", 0.0)
    U, g = randn(2, 17, 4, seed=4), randn(len(case.theta))
    double = solve(solver, bound(case, U), g, 1.0).x
    samples = case.samples.replacing(**{
        field.name: value.float() for field in fields(case.samples)
        if (value := getattr(case.samples, field.name)) is not None and value.is_floating_point()
    })  # fmt: skip
    small = replace(case, module=case.module.float(), theta=case.theta.float(), samples=samples)
    single = solve(solver, bound(small, U.float()), g.float(), 1.0)
    assert single.x.dtype == torch.float32
    assert close(single.x.double(), double, 1e-3)
