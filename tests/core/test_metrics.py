"""Every metric against its own definition, dense and in float64, and the relations between them."""

import functools
import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from rlopt.core import heads
from rlopt.core.curvature import PullBack
from rlopt.core.failure import NumericalFailure
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.gauss_newton import GaussNewton
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.gradient_covariance import GradientCovariance
from rlopt.core.metrics.gradient_history import GradientHistory
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.metrics.mahalanobis import Mahalanobis
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.parts import HISTORY, PRODUCT, ROOT, SEMIDEFINITE
from tests import oracles
from tests.oracles import HEADS, TAPES, WEIGHTS, Case, bits, close, eye, make_case, randn, share

METRICS = {
    "gauss_newton": GaussNewton(),
    "fisher": Fisher(None, 0),
    "empirical_fisher": EmpiricalFisher(),
    "gradient_covariance": GradientCovariance(centred=False),
    "gradient_covariance_centred": GradientCovariance(centred=True),
    "ggn": GGN("clipped"),
    "ggn_signed": GGN("signed"),
    "hessian": Hessian(),
    "gradient_history": GradientHistory(None, "full"),
    "gradient_history_diagonal": GradientHistory(0.9, "diagonal"),
    "mahalanobis": Mahalanobis(2.0, None, None),
}
DRAWN = {**METRICS, "fisher_sampled": Fisher(3, 5)}
ENTROPY = 0.05
OBJECTIVES = {
    "log_prob": LogProb(ENTROPY),
    "surrogate": Surrogate(ENTROPY),
    "clipped": Clipped(0.2, ENTROPY),
    "value": Value(),
}


@functools.cache
def given(head: str, tape: str, weights: str) -> Case:
    """A policy that has moved away from the one that acted, so that ratios differ from 1 and some are clipped."""
    return make_case(head, tape, weights, count=9, hidden=(4, 3), moved=0.3)


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
        s = slopes(lambda z: oracles.log_prob(case.head, z, case.samples.actions))
        C = s[:, :, None] * s[:, None, :]
    else:
        H = oracles.hessian(lambda z: -values(z).sum() + 0 * (z**2).sum(), z)
        C = torch.stack([H[b, :, b] for b in range(count)])
        if metric == "ggn":
            _, S, Vt = torch.linalg.svd(C)  # the positive part of C is half of C + |C|
            C = (C + Vt.mT @ (S[:, :, None] * Vt)) / 2
    return torch.einsum("b,boi,bop,bpj->ij", share, J, C, J)


def bind(metric, case: Case, objective=None, state=None):
    return metric.bind(metric.init() if state is None else state, case.tape, case.head, case.samples, objective)


def pulled(case: Case, U: Tensor) -> Tensor:
    """sum_b share_b J_b^T sum_k u_kb u_kb^T J_b, by the Jacobian of torch.func."""
    rows = torch.einsum("kbo,bop->kbp", U, oracles.jacobian(case))
    return torch.einsum("b,kbp,kbq->pq", share(case.samples), rows, rows)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", METRICS)
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


# --- sampled Fisher


@pytest.mark.parametrize("head", HEADS)
def test_fisher_at_the_taken_actions_is_the_empirical_fisher(head):
    case = given(head, "mlp", "random")
    taken, _ = bind(Fisher("taken", 0), case)
    assert torch.equal(taken.dense(), bind(EmpiricalFisher(), case)[0].dense())
    assert Fisher("taken", 0).first_step_only and not Fisher(1, 0).first_step_only


@pytest.mark.parametrize("weights", ["uniform", "masked"])
@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", HEADS)
def test_sampled_fisher_is_the_mean_outer_product_of_scores_of_actions(head, tape, weights):
    case, draws = given(head, tape, weights), 4
    curvature, state = bind(Fisher(draws, 7), case)
    assert state == {"draws": 1}
    U = curvature.root()
    s, z, h = U * draws**0.5, case.tape.outputs, case.head
    assert U.shape == (draws, *z.shape)
    if isinstance(h, heads.Categorical):  # e_a - p
        chosen = s + z.softmax(1)
        assert close(chosen.sort(2).values, torch.tensor([0.0, 0.0, 1.0]).double().expand_as(s), 1e-12)
    elif isinstance(h, heads.DiagonalGaussian):  # e / sigma and e^2 - 1, per unit of the scale
        sigma = oracles.distribution(h, z).base_dist.stddev
        e = s[..., : h.size] * sigma
        by_scale = e**2 - 1 if h.scale == "log_sigma" else (e**2 - 1) / sigma
        assert close(s[..., h.size :], by_scale, 1e-11)
    assert len(s.reshape(-1).unique()) >= draws * len(z) // (1 if h.noise == "normal" else 5)
    M = pulled(case, U)
    assert close(curvature.dense(), M, 1e-10)
    v = randn(len(M))
    assert close(curvature.product(v), M @ v, 1e-10)


@pytest.mark.parametrize("head", HEADS)
def test_sampled_fisher_converges_to_the_analytic_one_as_one_over_the_root_of_draws(head):
    case = given(head, "mlp", "random")
    C = oracles.output_fisher(case.head, case.tape.outputs)
    J, weight = oracles.jacobian(case), share(case.samples)
    F = torch.einsum("b,boi,bop,bpj->ij", weight, J, C, J)
    errors = []
    for draws in (40, 640):
        metric, state, squares = Fisher(draws, 1), {"draws": 0}, []
        for _ in range(12):
            curvature, state = bind(metric, case, state=state)
            U = curvature.root()
            sampled = torch.einsum("b,boi,kbo,kbp,bpj->ij", weight, J, U, U, J)
            squares.append(((sampled - F) ** 2).sum())
        errors.append(float(torch.stack(squares).mean().sqrt() / F.norm()))
    assert errors[1] < 0.2
    assert 2.8 < errors[0] / errors[1] < 5.6  # 4, within what 12 repetitions tell


def test_draws_follow_seed_count_and_rank_and_nothing_else(monkeypatch):
    case = given("sigma", "mlp", "uniform")
    metric = Fisher(2, 3)

    def drawn(metric, state) -> Tensor:
        return bind(metric, case, state=state)[0].root()

    first = drawn(metric, {"draws": 0})
    torch.manual_seed(99), torch.rand(5)
    assert torch.equal(first, drawn(Fisher(2, 3), {"draws": 0}))
    others = [drawn(metric, {"draws": 1}), drawn(Fisher(2, 4), {"draws": 0})]
    monkeypatch.setattr("rlopt.core.metrics.fisher.rank", lambda: 1)
    others.append(drawn(metric, {"draws": 0}))
    assert all((first - other).abs().min() > 0 for other in others)


# --- relations


def log_likelihood(head: str) -> Case:
    case = given(head, "mlp", "random")
    ones = torch.ones_like(case.samples.advantages)
    return Case(case.module, case.network, case.head, case.theta, case.samples.replacing(advantages=ones))


@pytest.mark.parametrize("kind", ["clipped", "signed"])
@pytest.mark.parametrize("head", ["categorical", "log_sigma", "sigma", "value"])
def test_ggn_of_the_log_likelihood_is_the_fisher_matrix_but_for_a_scale(head, kind):
    case = log_likelihood(head)
    F, M = oracles.fisher(case), bind(GGN(kind), case, LogProb(0.0))[0].dense()
    block = len(F) - case.head.constants
    if kind == "signed" or not case.head.constants:  # the positive part of a block is not that of the whole
        assert close(M[:block, :block], F[:block, :block], 1e-10)
    if case.head.constants:
        assert (M - F).abs().max() > 0.1 * F.abs().max()


def test_ggn_of_the_log_likelihood_at_fixed_sigma_is_the_fisher_matrix_on_average_only():
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
def test_hessian_is_ggn_and_the_second_derivatives_of_the_outputs(head, tape):
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
def test_ggn_is_the_hessian_where_the_network_is_linear_in_theta_and_on_a_relu_networks_own_blocks(head, tape):
    objective = OBJECTIVES["value" if head == "value" else "surrogate"]
    case = make_case(head, tape, hidden=())
    assert close(*(bind(metric, case, objective)[0].dense() for metric in (GGN("signed"), Hessian())), 1e-12)
    # several layers are multilinear in their weights: equal within each layer's block, not between layers
    case = make_case(head, tape, activation=torch.nn.ReLU)
    signed, whole = (bind(metric, case, objective)[0].dense() for metric in (GGN("signed"), Hessian()))
    places = case.network.layout.places
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


def test_the_objectives_hessian_must_be_finite_for_the_clipped_ggn():
    case = given("categorical", "mlp", "random")
    advantages = case.samples.advantages.clone()
    advantages[2] = float("nan")
    case = Case(case.module, case.network, case.head, case.theta, case.samples.replacing(advantages=advantages))
    with pytest.raises(NumericalFailure, match="not finite"):
        bind(GGN("clipped"), case, OBJECTIVES["surrogate"])


# --- state


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
def test_binding_again_from_the_same_state_gives_the_same_bits_and_leaves_everything_as_it_was(name):
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


class Ranks:
    """Two threads as two ranks: all_sum adds up what each brings."""

    def __init__(self):
        self.barrier, self.brought = threading.Barrier(2, timeout=5), {}

    def all_sum(self, x: Tensor) -> Tensor:
        self.brought[threading.current_thread().name] = x.clone()
        self.barrier.wait()
        total = self.brought["0"] + self.brought["1"]
        self.barrier.wait()
        return x.copy_(total)

    def run(self, f) -> list:
        results = {}

        def one(i: int) -> None:
            with torch.no_grad():
                results[i] = f(i)

        threads = [threading.Thread(target=one, args=(i,), name=str(i)) for i in range(2)]
        [t.start() for t in threads], [t.join() for t in threads]
        return [results[0], results[1]]


@pytest.mark.parametrize("name", METRICS)
def test_two_ranks_with_unequal_shares_of_the_samples_bind_the_same_matrix(name, monkeypatch):
    case, objective, metric = given("log_sigma", "mlp", "masked"), OBJECTIVES["surrogate"], METRICS[name]
    v = randn(len(case.theta))
    whole = bind(metric, case, objective)[0].product(v)
    ranks = Ranks()
    for module in ("curvature", "metrics.gradient_covariance", "metrics.gradient_history", "metrics.hessian"):
        monkeypatch.setattr(f"rlopt.core.{module}.all_sum", ranks.all_sum)
    slices = [slice(0, 4), slice(4, None)]
    parts = [case.samples.take(place) for place in slices]
    for part, place in zip(parts, slices, strict=True):
        vars(part)["share"] = case.samples.share[place]  # of the weight on both ranks

    def one(i: int) -> Tensor:
        tape = case.network.tape(case.theta.clone(), parts[i].inputs)
        return metric.bind(metric.init(), tape, case.head, parts[i], objective)[0].product(v)

    for product in ranks.run(one):
        assert close(product, whole, 1e-12)


# --- a given matrix


def positive(size: int) -> Tensor:
    A = randn(size, size, seed=8)
    return A @ A.T / size + 0.1 * eye(size)


def numbers(x: Tensor) -> tuple:
    return tuple(numbers(row) for row in x) if x.ndim else float(x)


@pytest.fixture
def save(tmp_path):
    def save(*arrays: Tensor, **named: Tensor) -> str:
        path = tmp_path / ("A.npz" if named else "A.npy")
        if named:
            np.savez(path, **{k: v.numpy() for k, v in named.items()})
        else:
            np.save(path, arrays[0].numpy())
        return str(path)

    return save


@pytest.mark.parametrize("tape", TAPES)
def test_mahalanobis_is_the_matrix_given_in_whatever_form(save, tape):
    case = make_case("sigma", tape, hidden=())
    P = len(case.theta)
    A, d, F = positive(P), randn(P).abs() + 0.1, randn(P, 2, seed=1)
    forms = [
        (lambda: Mahalanobis(None, None, None), eye(P)),
        (lambda: Mahalanobis(3.0, None, None), 3 * eye(P)),
        (lambda: Mahalanobis(numbers(d), None, None), d.diag()),
        (lambda: Mahalanobis(None, numbers(A), None), A),
        (lambda: Mahalanobis(0.5, numbers(A), None), A + 0.5 * eye(P)),
        (lambda: Mahalanobis(None, None, save(A)), A),
        (lambda: Mahalanobis(None, None, save(d)), d.diag()),
        (lambda: Mahalanobis(0.5, None, save(F)), F @ F.T + 0.5 * eye(P)),
        (lambda: Mahalanobis(None, None, save(factor=F, diagonal=d)), F @ F.T + d.diag()),
        (lambda: Mahalanobis(numbers(d), None, save(factor=F, matrix=A)), F @ F.T + A + d.diag()),
        (lambda: Mahalanobis(None, None, save(A.float())), A.float().double()),
    ]
    v = randn(P, seed=2)
    for make, M in forms:
        curvature, state = bind(make(), case)
        assert state == {}
        assert close(curvature.dense(), M, 1e-12)
        assert close(curvature.product(v), M @ v, 1e-12)


def test_mahalanobis_is_read_once(save, tmp_path):
    case = make_case("sigma", hidden=())
    A = positive(len(case.theta))
    metric = Mahalanobis(None, None, save(A))
    (tmp_path / "A.npy").unlink()
    assert close(bind(metric, case)[0].dense(), A, 1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda s: Mahalanobis(0.0, None, None), "diagonal must be above 0 everywhere; got 0.0"),
        (lambda s: Mahalanobis([1.0, -2.0], None, None), "diagonal must be above 0 everywhere; got -2.0"),
        (lambda s: Mahalanobis([1.0, float("nan")], None, None), "diagonal must be finite numbers"),
        (lambda s: Mahalanobis("two", None, None), "diagonal must be numbers"),
        (lambda s: Mahalanobis([[1.0]], None, None), "diagonal must be a number or a list of them"),
        (
            lambda s: Mahalanobis(None, ((1.0, 2.0), (2.0, 1.0)), None),
            "positive definite; got 'smallest eigenvalue -1'",
        ),
        (lambda s: Mahalanobis(None, ((1.0, 0.5), (0.0, 1.0)), None), "symmetric; got 'a difference of 0.5'"),
        (lambda s: Mahalanobis(None, ((1.0, 0.5),), None), r"square; got 'shape \(1, 2\)'"),
        (lambda s: Mahalanobis(None, ((1.0,), (1.0, 2.0)), None), "matrix must be numbers in rows of one length"),
        (lambda s: Mahalanobis([1.0, 1.0, 1.0], ((1.0, 0.0), (0.0, 1.0)), None), "of 2 rows, as the matrix; got 3"),
        (lambda s: Mahalanobis(None, None, s(randn(3, 2))), "above 0 everywhere beside a factor of low rank; got 0.0"),
        (lambda s: Mahalanobis(None, ((1.0,),), s(matrix=eye(1))), "matrix must be null beside file="),
        (lambda s: Mahalanobis(None, None, s(metric=eye(1))), "name must be diagonal, matrix or factor; got 'metric'"),
        (lambda s: Mahalanobis(None, None, s(randn(2, 2, 2))), r"factor must be of shape \(P, r\)"),
        (
            lambda s: Mahalanobis(None, None, "nowhere.npy"),
            "file must be a .npy or .npz file of numbers; 'nowhere.npy'",
        ),
    ],
)
def test_mahalanobis_refuses_what_is_no_metric(make, says, save):
    with pytest.raises(ValueError, match=says):
        make(save)


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 broken"])
def test_mahalanobis_refuses_a_broken_file(tmp_path, content):
    (tmp_path / "A.npy").write_bytes(content)
    with pytest.raises(ValueError, match="must be a .npy or .npz file"):
        Mahalanobis(None, None, str(tmp_path / "A.npy"))


def test_mahalanobis_runs_no_code_of_a_file(tmp_path):
    np.save(tmp_path / "A.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="file must be"):
        Mahalanobis(None, None, str(tmp_path / "A.npy"))


def test_mahalanobis_names_the_sizes_that_do_not_fit(save):
    case = make_case("categorical", hidden=())
    for metric in (Mahalanobis((1.0, 2.0), None, None), Mahalanobis(1.0, None, save(randn(5, 2)))):
        with pytest.raises(
            ValueError, match=r"of 12 rows, as theta is; got '(diagonal of shape \(2,\)|factor of shape)"
        ):
            bind(metric, case)


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
