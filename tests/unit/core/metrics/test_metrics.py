"""Every metric against its own definition, dense and in float64, and the relations between them."""

import functools
import itertools

import pytest
import torch
from torch import Tensor

from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import PullBack
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.gradient_covariance import GradientCovariance
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.parts import HISTORY, PRODUCT, ROOT, SEMIDEFINITE
from tests.support import densities, oracles
from tests.support.metrics import ENTROPY, METRICS, OBJECTIVES, bind, given, pulled
from tests.support.oracles import HEADS, MORE_HEADS, TAPES, WEIGHTS, Case, close, eye, make_case, randn, share


@functools.cache
def truth(metric: str, head: str, weights: str, objective: str) -> Tensor:
    """M (P, P), by differentiating torch's distributions and the module alone."""
    case = given(head, "mlp", weights)
    share, J = oracles.share(case.samples), oracles.jacobian(case)
    z = oracles.outputs(case.module, case.theta, case.samples.inputs).detach()
    count, size = z.shape

    def values(z: Tensor) -> Tensor:
        return oracles.sample_values(case, objective, z, 0.2, ENTROPY)

    def slopes(f) -> Tensor:
        point = z.clone().requires_grad_()
        return torch.autograd.grad(f(point).sum(), point)[0]

    if metric == "hessian":
        return oracles.hessian(lambda theta: -oracles.objective(case, objective, theta, 0.2, ENTROPY), case.theta)
    if metric.startswith("gradient"):
        g = torch.einsum("bop,bo->bp", J, slopes(values))
        mean = share @ g
        return {
            "gradient_covariance": torch.einsum("b,bp,bq->pq", share, g, g),
            "gradient_covariance_centred": torch.einsum("b,bp,bq->pq", share, g - mean, g - mean),
            "gradient_history": mean[:, None] * mean,
            "gradient_history_diagonal": (mean**2).diag(),
        }[metric]
    if metric == "mahalanobis":
        return 2 * eye(J.shape[2])
    if metric == "gauss_newton":
        C = eye(size).expand(count, size, size)
    elif metric == "fisher":
        C = oracles.output_fisher(case.head, z)
    elif metric == "empirical_fisher":
        s = slopes(lambda z: densities.log_prob(case.head, z, case.samples.actions))
        C = s[:, :, None] * s[:, None, :]
    else:
        H = oracles.hessian(lambda z: -values(z).sum() + 0 * (z**2).sum(), z)
        C = torch.stack([H[b, :, b] for b in range(count)])
        if metric == "ggn":
            _, S, Vt = torch.linalg.svd(C)  # the positive part of C is half of C + |C|
            C = (C + Vt.mT @ (S[:, :, None] * Vt)) / 2
    return torch.einsum("b,boi,bop,bpj->ij", share, J, C, J)


CASES = [
    *itertools.product(METRICS, HEADS, TAPES, WEIGHTS),
    # some metrics of further heads, since all of them would make this battery twice as long
    *itertools.product(["fisher", "ggn", "hessian", "gradient_covariance"], MORE_HEADS, ["autograd"], ["random"]),
]


@pytest.mark.parametrize(("name", "head", "tape", "weights"), CASES)
def test_every_metric_is_its_definition(name, head, tape, weights):
    metric, case = METRICS[name], given(head, tape, weights)
    objectives = ["value"] if head == "value" else ["log_prob", "surrogate", "clipped"]
    for objective in objectives if name.startswith(("g", "hessian")) else objectives[-1:]:
        M = truth(name, head, weights, objective)
        curvature, _ = bind(metric, case, OBJECTIVES[objective])
        assert curvature.size == len(M) and M.abs().max() > 1e-3
        for v in randn(2, len(M), seed=3):
            kept = v.clone()
            assert close(curvature.product(v), M @ v, 1e-10)
            assert torch.equal(v, kept)
        dense = curvature.dense()
        assert close(dense, M, 1e-10)
        assert close(dense, dense.T, 1e-15)
        if SEMIDEFINITE in metric.supplies:
            assert torch.linalg.eigvalsh(dense).min() > -1e-12 * dense.abs().max()
        root = getattr(curvature, "root", None)
        assert (root is not None) == (ROOT in metric.supplies)
        if root is not None:
            assert root().shape[1:] == case.tape.outputs.shape
            assert close(pulled(case, root()), M, 1e-10)


@pytest.mark.parametrize("name", ["ggn_signed", "hessian"])
def test_a_metric_that_may_be_indefinite_says_so_and_is(name):
    assert METRICS[name].supplies.isdisjoint({ROOT, SEMIDEFINITE})
    M = bind(METRICS[name], given("log_sigma", "mlp", "random"), OBJECTIVES["surrogate"])[0].dense()
    spectrum = torch.linalg.eigvalsh(M)
    assert spectrum[0] < -0.1 < 0.1 < spectrum[-1]


def test_what_a_metric_supplies_follows_its_options():
    for metric, rooted, semidefinite in [
        (GGN("clipped"), True, True),
        (GGN("signed"), False, False),
        (GradientCovariance(False), True, True),
        (GradientCovariance(True), False, True),
        (Fisher(2, 0), True, True),
    ]:
        assert PRODUCT in metric.supplies
        assert (ROOT in metric.supplies, SEMIDEFINITE in metric.supplies) == (rooted, semidefinite)
    assert HISTORY in GradientHistory(None, "diagonal").supplies


def log_likelihood(head: str) -> Case:
    case = given(head, "mlp", "random")
    ones = torch.ones_like(case.samples.advantages)
    return Case(case.module, case.network, case.head, case.theta, case.samples.replacing(advantages=ones))


@pytest.mark.parametrize("kind", ["clipped", "signed"])
@pytest.mark.parametrize("head", ["categorical", "log_sigma", "sigma", "value"])
def test_ggn_of_the_log_likelihood_is_fisher_but_for_a_scale(head, kind):
    case = log_likelihood(head)
    F, M = oracles.fisher(case), bind(GGN(kind), case, LogProb(0.0))[0].dense()
    block = len(F) - case.head.constants
    if kind == "signed" or not case.head.constants:  # the positive part of a block is not that of the whole
        assert close(M[:block, :block], F[:block, :block], 1e-10)
    if case.head.constants:
        assert (M - F).abs().max() > 0.1 * F.abs().max()


def test_ggn_of_the_likelihood_at_sigma_is_fisher_on_average():
    case = log_likelihood("log_sigma")
    z = case.tape.outputs[:1].expand(100_000, -1)
    mean = -case.head.log_prob_hessian(z, oracles.draw(case.head, z, 5)).mean(0)
    C = oracles.output_fisher(case.head, z[:1])[0]
    assert (mean - C).abs().max() < 0.03 * C.abs().max()


@pytest.mark.parametrize("head", ["categorical", "log_sigma", "sigma", "value"])
def test_empirical_fisher_is_fisher_on_the_model_and_not_off_it(head):
    def distance(moved: float) -> float:
        case = make_case(head, count=4000, weights="uniform", hidden=(3,), moved=moved)
        F = bind(Fisher(None, 0), case)[0].dense()
        return float((bind(EmpiricalFisher(), case)[0].dense() - F).norm() / F.norm())

    assert distance(0.0) < 0.12
    assert distance(1.0) > 0.25


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", ["categorical", "sigma", "value"])
def test_hessian_is_ggn_plus_second_derivatives_of_outputs(head, tape):
    case = given(head, tape, "masked")
    objective = OBJECTIVES["value" if head == "value" else "surrogate"]
    signed, whole = (bind(metric, case, objective)[0] for metric in (GGN("signed"), Hessian()))
    _, slopes = objective.values_and_gradient(case.head, case.tape.outputs, case.samples)
    v = randn(len(case.theta))
    bent = case.tape.hvp(slopes * share(case.samples)[:, None], v)
    assert bent.norm() > 0.05 * whole.product(v).norm()
    assert close(signed.product(v) - bent, whole.product(v), 1e-12)


@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", ["categorical", "value"])
def test_ggn_is_the_hessian_of_linear_and_relu_networks_blocks(head, tape):
    objective = OBJECTIVES["value" if head == "value" else "surrogate"]
    case = make_case(head, tape, hidden=())
    assert close(*(bind(metric, case, objective)[0].dense() for metric in (GGN("signed"), Hessian())), 1e-12)
    # several layers are multilinear in their weights: equal within each layer's block, not between layers
    case = make_case(head, tape, activation=torch.nn.ReLU)
    signed, whole = (bind(metric, case, objective)[0].dense() for metric in (GGN("signed"), Hessian()))
    places = case.network.layout.slices
    for place in places.values():
        assert close(signed[place, place], whole[place, place], 1e-12)
    assert (signed - whole).abs().max() > 1e-3
    curved = make_case(head, tape)
    first = next(iter(places.values()))
    differ = [bind(metric, curved, objective)[0].dense()[first, first] for metric in (GGN("signed"), Hessian())]
    assert (differ[0] - differ[1]).abs().max() > 1e-3


def test_centred_covariance_does_not_see_what_all_samples_share():
    case = given("categorical", "mlp", "random")
    objective = OBJECTIVES["log_prob"]
    g = oracles.gradient(case, "log_prob", entropy=ENTROPY)
    plain, centred = (bind(GradientCovariance(c), case, objective)[0] for c in (False, True))
    assert close(plain.dense() - centred.dense(), g[:, None] * g, 1e-12)
    one = make_case("categorical", count=1)
    assert close(bind(GradientCovariance(True), one, objective)[0].dense(), 0 * eye(len(one.theta)), 1e-15)


def test_the_clipped_ggn_needs_a_finite_objective_hessian():
    case = given("categorical", "mlp", "random")
    advantages = case.samples.advantages.clone()
    advantages[2] = float("nan")
    case = Case(case.module, case.network, case.head, case.theta, case.samples.replacing(advantages=advantages))
    with pytest.raises(NumericalFailure, match="not finite"):
        bind(GGN("clipped"), case, OBJECTIVES["surrogate"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Fisher(0, 0), "samples must be a whole number, 1 or above; got 0"),
        (lambda: Fisher("drawn", 0), "samples must be null, a whole number of draws, or taken; got 'drawn'"),
        (lambda: Fisher(None, -1), "seed must be a whole number, 0 or above; got -1"),
        (lambda: GGN("absolute"), "curvature must be clipped or signed; got 'absolute'"),
        (lambda: GradientHistory(1.0, "full"), "decay must be null, or 0 or above and below 1; got 1.0"),
        (lambda: GradientHistory(float("nan"), "full"), "decay must be"),
        (lambda: GradientHistory(None, "half"), "form must be full or diagonal; got 'half'"),
    ],
)
def test_metrics_refuse_options_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_pull_back_without_root_still_multiplies():
    case = given("log_sigma", "mlp", "random")
    curvature, _ = bind(GradientCovariance(True), case, OBJECTIVES["log_prob"])
    assert isinstance(curvature, PullBack)
    with pytest.raises(ValueError, match="no root"):
        curvature.layer_mean(lambda layer, share: (share,))
