"""Metrics bound again, in single precision and on two ranks, and the one that remembers."""

import pytest
import torch
from torch import Tensor

from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.gradient_history import GradientHistory
from tests.support import oracles
from tests.support.metrics import ENTROPY, METRICS, OBJECTIVES, bind, given
from tests.support.oracles import TAPES, Case, bits, close, randn
from tests.support.two_ranks import Ranks, halves

DRAWN = {**METRICS, "fisher_sampled": Fisher(3, 5)}


def at(case: Case, theta: Tensor) -> Case:
    return Case(case.module, case.network, case.head, theta, case.samples)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("decay", [None, 0.0, 0.7])
def test_gradient_history_adds_up_the_gradients_of_all_updates(decay, tape):
    case, objective = given("sigma", tape, "masked"), OBJECTIVES["surrogate"]
    points = [at(case, case.theta + 0.05 * i * randn(len(case.theta), seed=i).abs()) for i in range(4)]
    full, diagonal = GradientHistory(decay, "full"), GradientHistory(decay, "diagonal")
    states, history = [full.init(), diagonal.init()], []
    for T, point in enumerate(points, 1):
        kept = bits(states)
        (by_full, after_full), (by_diagonal, after_diagonal) = (
            bind(metric, point, objective, state) for metric, state in zip((full, diagonal), states, strict=True)
        )
        assert bits(states) == kept
        again = bind(full, point, objective, states[0])
        assert torch.equal(again[0].dense(), by_full.dense()) and bits(again[1]) == bits(after_full)
        states = [after_full, after_diagonal]
        history.append(oracles.gradient(point, "surrogate", entropy=ENTROPY))
        if decay is None:
            factors = [1.0] * T
        else:
            factors = [(1 - decay) * decay ** (T - t) / (1 - decay**T) for t in range(1, T + 1)]
        M = sum(factor * g[:, None] * g for factor, g in zip(factors, history, strict=True))
        assert close(by_full.dense(), M, 1e-11)
        assert close(by_diagonal.dense(), M.diagonal().diag(), 1e-11)
        v = randn(len(M), seed=T)
        assert close(by_full.product(v), M @ v, 1e-11)
        assert close(by_diagonal.product(v), M.diagonal() * v, 1e-11)


@pytest.mark.parametrize("name", DRAWN)
def test_binding_again_gives_the_same_bits_and_changes_nothing(name):
    case, objective = given("log_sigma", "mlp", "random"), OBJECTIVES["clipped"]
    metric, tape = DRAWN[name], case.tape
    _, state = metric.bind(metric.init(), tape, case.head, case.samples, objective)
    kept = bits([state, tape.outputs, case.theta, vars(case.samples)])
    v = randn(len(case.theta))
    products = []
    for _ in range(2):
        curvature, after = metric.bind(state, tape, case.head, case.samples, objective)
        products.append((bits(curvature.product(v)), bits(curvature.product(v)), bits(after)))
    assert products[0] == products[1] and products[0][0] == products[0][1]
    assert bits([state, tape.outputs, case.theta, vars(case.samples)]) == kept


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("head", ["categorical", "sigma"])
def test_single_precision_stays_single_and_near_double(head, name):
    case, objective, metric = given(head, "mlp", "random"), OBJECTIVES["surrogate"], DRAWN[name]
    if name == "fisher_sampled":
        metric = Fisher(500, 0)  # draws differ between precisions
    samples = {k: v.float() if v.is_floating_point() else v for k, v in vars(case.samples).items() if v is not None}
    samples.pop("share", None)
    single = Case(case.module.float(), case.network, case.head, case.theta.float(), type(case.samples)(**samples))
    curvature, _ = bind(metric, single, objective)
    case.module.double()
    v = randn(len(case.theta))
    product = curvature.product(v.float())
    expected = bind(metric, case, objective)[0].product(v)
    assert product.dtype == curvature.dense().dtype == torch.float32
    assert (product.double() - expected).norm() < (0.2 if name == "fisher_sampled" else 1e-4) * expected.norm()


@pytest.mark.parametrize("name", METRICS)
def test_two_ranks_with_unequal_shares_bind_the_same_matrix(name, monkeypatch):
    case, objective, metric = given("log_sigma", "mlp", "masked"), OBJECTIVES["surrogate"], METRICS[name]
    v = randn(len(case.theta))
    whole = bind(metric, case, objective)[0].product(v)
    ranks = Ranks()
    for module in ("curvature", "metrics.gradient_covariance", "metrics.gradient_history", "metrics.hessian"):
        monkeypatch.setattr(f"rlopt.core.{module}.all_sum", ranks.all_sum)
    parts = halves(case)

    def one(i: int) -> Tensor:
        tape = case.network.tape(case.theta.clone(), parts[i].inputs)
        return metric.bind(metric.init(), tape, case.head, parts[i], objective)[0].product(v)

    for product in ranks.run(one):
        assert close(product, whole, 1e-12)
