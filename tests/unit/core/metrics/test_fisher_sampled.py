"""The Fisher metric at drawn actions: unbiased, 1/sqrt(draws) from the analytic one, and repeatable."""

import pytest
import torch
from torch import Tensor

from rlopt.core import heads
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from tests.support import densities, oracles
from tests.support.metrics import bind, given, pulled
from tests.support.oracles import HEADS, TAPES, close, randn, share


@pytest.mark.parametrize("head", HEADS)
def test_fisher_at_the_taken_actions_is_the_empirical_fisher(head):
    case = given(head, "mlp", "random")
    taken, _ = bind(Fisher("taken", 0), case)
    assert torch.equal(taken.dense(), bind(EmpiricalFisher(), case)[0].dense())
    assert Fisher("taken", 0).requirements.first_step_only and not Fisher(1, 0).requirements.first_step_only


@pytest.mark.parametrize("weights", ["uniform", "masked"])
@pytest.mark.parametrize("tape", TAPES)
@pytest.mark.parametrize("head", HEADS)
def test_sampled_fisher_is_the_mean_outer_product_of_scores(head, tape, weights):
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
        sigma = densities.distribution(h, z).base_dist.stddev
        e = s[..., : h.size] * sigma
        by_scale = e**2 - 1 if h.scale == "log_sigma" else (e**2 - 1) / sigma
        assert close(s[..., h.size :], by_scale, 1e-11)
    assert len(s.reshape(-1).unique()) >= draws * len(z) // (1 if h.noise == "normal" else 5)
    M = pulled(case, U)
    assert close(curvature.dense(), M, 1e-10)
    v = randn(len(M))
    assert close(curvature.product(v), M @ v, 1e-10)


@pytest.mark.parametrize("head", HEADS)
def test_sampled_fisher_converges_as_one_over_the_root_of_draws(head):
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
