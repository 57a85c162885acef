import pytest
import torch
from torch import Tensor

from rlopt.config.saved import read_choice
from rlopt.config.schema import construct_part
from rlopt.core.curvature import Euclidean, PullBack, factored
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.gauss_newton import GaussNewton
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.identity import Identity
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.problem import Problem
from rlopt.inspection.memory import NewTensors
from tests.support.oracles import HEADS, TAPES, WEIGHTS, Case, close, fisher, kl_hessian, make_case, randn

every_case = pytest.mark.parametrize("weights", WEIGHTS)
every_tape = pytest.mark.parametrize("tape", TAPES)
every_head = pytest.mark.parametrize("head", HEADS)


def bind(case: Case) -> PullBack:
    curvature, state = Fisher(None, 0).bind({}, case.tape, case.head, case.samples, None)
    assert state == {}
    return curvature


@every_case
@every_tape
@every_head
def test_fisher_is_the_hessian_of_mean_kl(head, tape, weights):
    case = make_case(head, tape, weights)
    F, curvature = kl_hessian(case), bind(case)
    assert close(fisher(case), F, 1e-12)
    assert curvature.size == len(case.theta)
    for seed in range(3):
        v = randn(len(case.theta), seed=seed)
        assert close(curvature.product(v), F @ v, 1e-10)
    dense = curvature.dense()
    assert close(dense, F, 1e-10)
    assert torch.equal(dense, dense.T)
    assert torch.linalg.eigvalsh(dense).min() > -1e-12


@every_case
@every_tape
@every_head
def test_layer_mean_gives_the_exact_diagonal(head, tape, weights):
    case = make_case(head, tape, weights)

    def squares(layer, root: Tensor) -> tuple[Tensor]:
        return ((torch.einsum("kblj,bli->kbji", layer.signals, layer.inputs) ** 2).sum((0, 1)),)

    curvature, expected, seen = bind(case), fisher(case).diagonal(), 0
    layers = case.tape.layers(case.head.fisher_root(case.tape.outputs))
    places = case.network.layout.slices
    for layer, (diagonal,) in zip(layers, curvature.layer_mean(squares), strict=True):
        if layer.weight is not None:
            by_weight = diagonal[:, : layer.weight.shape[1]].reshape(-1)
            assert close(by_weight, expected[places[layer.weight_name]], 1e-12)
            seen += by_weight.numel()
        if layer.bias_name:
            assert close(diagonal[:, -1], expected[places[layer.bias_name]], 1e-12)
            seen += len(diagonal)
    assert seen == len(case.theta)


def test_layer_mean_takes_several_statistics_at_once():
    case = make_case("categorical")
    both = bind(case).layer_mean(lambda layer, root: (root @ root, root**2 @ layer.inputs.sum((1, 2))))
    assert len(both) == 3
    assert all(close(total, torch.ones((), dtype=torch.float64), 1e-12) for total, _ in both)


def test_layer_mean_without_a_root_is_refused():
    case = make_case("categorical")
    curvature = PullBack(case.tape, case.samples.share, lambda t: t)
    with pytest.raises(ValueError, match="only its products"):
        curvature.layer_mean(lambda layer, root: (root,))


@every_tape
def test_a_problem_measures_with_the_analytic_fisher_matrix(tape):
    case = make_case("sigma", tape, "masked")
    problem = Problem(case.network, case.head, None, case.samples, case.tape, None)
    v = randn(len(case.theta))
    assert close(problem.fisher(v), fisher(case) @ v, 1e-10)


@every_tape
@every_head
def test_half_the_quadratic_form_is_kl_to_second_order(head, tape):
    case = make_case(head, tape, "masked")
    problem = Problem(case.network, case.head, _Nothing(), case.samples, case.tape, None)
    v = randn(len(case.theta), seed=3)
    q = v @ bind(case).product(v) / 2
    for h in (1e-2, 1e-3):
        assert abs(problem.trial(case.theta + h * v).kl / h**2 - q) < 20 * h * q


def test_euclidean_is_the_identity_matrix():
    case = make_case("categorical")
    curvature, state = Identity().bind({}, case.tape, case.head, case.samples, None)
    assert isinstance(curvature, Euclidean) and state == {}
    v = randn(len(case.theta))
    assert torch.equal(curvature.product(v), v)
    assert torch.equal(curvature.dense(), torch.eye(len(v), dtype=torch.float64))
    assert curvature.size == len(v)


class _Nothing:
    def values(self, head, z, samples):
        return torch.zeros_like(samples.weight)


def test_a_block_goes_through_the_tape_in_parts(monkeypatch):
    """Columns times samples bound the memory; the products are the same."""
    case = make_case("log_sigma", weights="masked")
    curvature = factored(case.tape, case.samples.share, 0.5 * randn(2, *case.tape.outputs.shape, seed=4))
    V, seen, jvps = randn(len(case.theta), 7, seed=1), [], type(case.tape).jvps
    monkeypatch.setattr(type(case.tape), "jvps", lambda self, V: seen.append(V.shape[1]) or jvps(self, V))
    whole = curvature.block(V)
    monkeypatch.setattr("rlopt.core.curvature._PASS", 3 * len(case.samples.share))
    assert close(curvature.block(V), whole, 1e-13) and seen == [7, 3, 3, 1]
    monkeypatch.setattr("rlopt.core.curvature._PASS", 1)
    assert close(curvature.block(V), whole, 1e-13) and seen[4:] == [1] * 7


@pytest.mark.parametrize("metric", [Fisher(None, 0), Fisher(3, 0), Fisher("taken", 0), GaussNewton(), GGN("clipped")])
@pytest.mark.parametrize("name", ["kfac", "ekfac", "kfra", "diagonal", "block"])
def test_solvers_find_the_same_in_slices(name, metric, monkeypatch):
    """Roots and signals of 5 of 17 samples at a time, for the metrics' own roots and for those made at once."""
    solver, case = construct_part(read_choice("solver", name), "solver"), make_case("log_sigma", weights="masked")
    found = []
    for rows in (17, 5):
        monkeypatch.setattr("rlopt.core.network.SLICE", rows)
        monkeypatch.setattr("rlopt.core.tapes.joined.SLICE", rows)
        curvature, _ = metric.bind(metric.init(), case.tape, case.head, case.samples, LogProb(0.0))
        solve, _ = solver.prepare(solver.init(), curvature, 0.1)
        found.append(solve(randn(len(case.theta), seed=1)).x)
        found.append(curvature.product(randn(len(case.theta), seed=2)))
    assert close(found[2], found[0], 1e-10) and close(found[3], found[1], 1e-12)


@pytest.mark.parametrize("name", ["kfac", "ekfac", "kfra", "diagonal"])
def test_a_root_of_many_factors_takes_memory_for_a_slice(name, monkeypatch):
    """Twelve factors of twelve outputs are more numbers a sample than the network's activations."""
    monkeypatch.setattr("rlopt.core.network.SLICE", 64)
    monkeypatch.setattr("rlopt.core.tapes.joined.SLICE", 64)
    case = make_case(DiagonalGaussian(6), count=2048, hidden=(32, 32))
    solver, curvature = construct_part(read_choice("solver", name), "solver"), bind(case)
    with NewTensors() as memory:
        solver.prepare(solver.init(), curvature, 0.1)[0](randn(len(case.theta)))
    assert memory.peak < 0.7 * 2048 * 8 * (32 + 32 + 6)


@pytest.mark.parametrize("head", ["log_sigma", "joint_sigma", "categorical"])
def test_factors_that_one_slice_lacks_are_found_in_another(head, monkeypatch):
    """A factor is left out where it is zero at every sample, and not where it is at those of the first slice."""
    case = make_case(head, count=6)
    U = randn(3, 6, case.tape.outputs.shape[1], seed=3)
    U[1, :4] = 0
    U[2, :, : case.tape.width] = 0
    means = []
    for rows in (6, 2):
        monkeypatch.setattr("rlopt.core.network.SLICE", rows)
        monkeypatch.setattr("rlopt.core.tapes.joined.SLICE", rows)
        curvature = factored(case.tape, case.samples.share, U)
        means.append(
            curvature.layer_mean(lambda layer, root: (torch.einsum("kblj,bli->kji", layer.signals, layer.inputs),))
        )
    assert all(close(a, b, 1e-12) for (a,), (b,) in zip(*means, strict=True))
