"""A policy and a value from one network: the objective, and every metric of it, against torch.func and autograd."""

import functools

import pytest
import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.heads import Categorical, DiagonalGaussian, Joint, MultiCategorical
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.gradient_covariance import GradientCovariance
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.joint import JointObjective
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.solvers.dense import Dense
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.update import Update
from tests.support import densities, oracles
from tests.support.oracles import TAPES, Case, close, eye, make_case, randn

HEADS = {
    "categorical": Joint(Categorical(3), 2.5),
    "log_sigma": Joint(DiagonalGaussian(2), 0.4),
    "sigma": Joint(DiagonalGaussian(2, scale="sigma"), 2.5),
    "per_state": Joint(DiagonalGaussian(1, per_state=True), 1.0),
    "multi_categorical": Joint(MultiCategorical((2, 3)), 0.7),
}
WEIGHT, ENTROPY = 0.6, 0.05
OBJECTIVES = {
    "log_prob": JointObjective(LogProb(ENTROPY), WEIGHT),
    "surrogate": JointObjective(Surrogate(ENTROPY), WEIGHT),
    "clipped": JointObjective(Clipped(0.2, ENTROPY), WEIGHT),
}
METRICS = {
    "fisher": Fisher(None, 0),
    "empirical_fisher": EmpiricalFisher(),
    "gradient_covariance": GradientCovariance(centred=False),
    "ggn_signed": GGN("signed"),
    "ggn": GGN("clipped"),
    "hessian": Hessian(),
}
every_head = pytest.mark.parametrize("head", HEADS)
every_objective = pytest.mark.parametrize("objective", OBJECTIVES)


@functools.cache
def given(head: str, tape: str = "mlp", count: int = 12) -> tuple[Case, Case]:
    """Samples of a policy that has moved since it acted, and the policy's own part of the same."""
    case = make_case(HEADS[head], tape, "masked", count=count, hidden=(4, 3), moved=0.3)
    joint, samples = case.head, case.samples
    actions = samples.actions[:, 1:]
    if isinstance(joint.policy, Categorical):
        actions = actions.long().squeeze(1)
    if isinstance(joint.policy, MultiCategorical):
        actions = actions.long()
    acting = samples.old_outputs[:, 1:]
    own = samples.replacing(actions=actions, old_log_prob=densities.log_prob(joint.policy, acting, actions))
    whole = samples.replacing(old_log_prob=own.old_log_prob)
    return (
        Case(case.module, case.network, joint, case.theta, whole),
        Case(case.module, case.network, joint.policy, case.theta, own),
    )


def values(head: str, name: str, z: Tensor) -> Tensor:
    """(B,) by the definition: the policy's part of z behind the value's."""
    case, own = given(head)
    normal = torch.distributions.Normal(z[:, 0], case.head.variance**0.5)
    likelihood = normal.log_prob(case.samples.actions[:, 0])
    return oracles.sample_values(own, name, z[:, 1:], 0.2, ENTROPY) + WEIGHT * likelihood


def outputs(head: str, theta: Tensor | None = None) -> Tensor:
    case, _ = given(head)
    return oracles.outputs(case.module, case.theta if theta is None else theta, case.samples.inputs)


def slopes(f, z: Tensor) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


def by_sample(f, z: Tensor) -> Tensor:
    full = oracles.hessian(lambda z: f(z).sum(), z)
    return torch.stack([full[b, :, b] for b in range(len(z))])


@every_objective
@every_head
def test_the_objective_adds_policy_and_weighted_value_likelihood(head, objective):
    (case, _), part = given(head), OBJECTIVES[objective]
    z = outputs(head).detach()
    kept = z.clone()
    expected = values(head, objective, z)
    found, gradient = part.values_and_gradient(case.head, z, case.samples)
    assert close(part.values(case.head, z, case.samples), expected, 1e-12)
    assert close(found, expected, 1e-12)
    assert close(gradient, slopes(lambda z: values(head, objective, z), z), 1e-12)
    assert close(part.hessian(case.head, z, case.samples), by_sample(lambda z: values(head, objective, z), z), 1e-10)
    assert torch.equal(z, kept)


@functools.cache
def truth(metric: str, head: str, objective: str) -> Tensor:
    """M (P, P), by torch.func and autograd alone."""
    case, own = given(head)
    share, J, z = oracles.share(case.samples), oracles.jacobian(case), outputs(head).detach()
    if metric == "hessian":
        return oracles.hessian(lambda theta: -share @ values(head, objective, outputs(head, theta)), case.theta)
    if metric == "fisher":  # the two parts apart: J_v^T J_v / variance + J_pi^T F_pi J_pi
        of_value, J_pi = J[:, 0] / case.head.variance**0.5, J[:, 1:]
        F = torch.einsum("b,boi,bop,bpj->ij", share, J_pi, oracles.output_fisher(own.head, z[:, 1:]), J_pi)
        return F + torch.einsum("b,bi,bj->ij", share, of_value, of_value)
    if metric in ("empirical_fisher", "gradient_covariance"):
        f = {
            "empirical_fisher": lambda z: densities.log_prob(case.head, z, case.samples.actions),
            "gradient_covariance": lambda z: values(head, objective, z),
        }[metric]
        rows = torch.einsum("bo,bop->bp", slopes(f, z), J)
        return torch.einsum("b,bp,bq->pq", share, rows, rows)
    C = -by_sample(lambda z: values(head, objective, z), z)
    if metric == "ggn":
        mu, Q = torch.linalg.eigh(C)
        C = Q @ torch.diag_embed(mu.clamp(min=0)) @ Q.mT
    return torch.einsum("b,boi,bop,bpj->ij", share, J, C, J)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("tape", TAPES)
@every_head
def test_every_metric_of_a_shared_trunk_is_its_definition(head, tape, metric):
    case, _ = given(head, tape)
    for name in ["clipped"] if "fisher" in metric else OBJECTIVES:
        M = truth(metric, head, name)
        curvature, _ = METRICS[metric].bind({}, case.tape, case.head, case.samples, OBJECTIVES[name])
        assert M.abs().max() > 1e-3
        assert close(curvature.dense(), M, 1e-10)


@every_head
def test_the_trunk_sees_both_parts_the_last_layer_splits_them(head):
    case, _ = given(head)
    F = Fisher(None, 0).bind({}, case.tape, case.head, case.samples, None)[0].dense()
    sizes = case.network.layout.sizes
    last = sum(sizes[:4])
    width = 3  # of the last hidden layer
    value = [*range(last, last + width), last + sizes[4]]  # weights of the first output, and its bias
    policy = [i for i in range(last, len(F)) if i not in value]
    assert (F[value][:, policy] == 0).all()
    assert F[:last, value].abs().max() > 1e-3 and F[:last, policy].abs().max() > 1e-3


@every_head
def test_at_unit_weight_the_values_ggn_is_its_fisher_information(head):
    case, _ = given(head)
    H = JointObjective(Surrogate(0.0), 1.0).hessian(case.head, outputs(head).detach(), case.samples)
    assert close(-H[:, 0, 0], torch.full_like(H[:, 0, 0], 1 / case.head.variance), 1e-15)
    assert (H[:, 0, 1:] == 0).all() and (H[:, 1:, 0] == 0).all()


@pytest.mark.parametrize("tape", TAPES)
@every_head
def test_a_line_search_keeps_the_kl_of_both_parts_in_the_radius(head, tape):
    case, own = given(head, tape)
    search = KLLineSearch(0.01, shrink=0.8, backtracks=10, accept_ratio=0.0, largest=1e6)
    update = Update(
        case.network, case.head, OBJECTIVES["surrogate"], Fisher(None, 0), Dense("refuse"), Constant(1e-2), search
    )
    theta, _, report = update(case.theta, update.init(case.theta), case.samples)
    share, F = oracles.share(case.samples), truth("fisher", head, "surrogate")
    at = case.theta.clone().requires_grad_()
    (g,) = torch.autograd.grad(share @ values(head, "surrogate", outputs(head, at)), at)
    x = torch.linalg.solve(F + 1e-2 * eye(len(g)), g)
    d = theta - case.theta
    assert report.scalars["step/accepted"] == 1
    assert close(d, x * (d @ x) / (x @ x), 1e-8)
    old, new = outputs(head).detach(), outputs(head, theta)
    of_value = (share @ (new[:, 0] - old[:, 0]) ** 2) / (2 * case.head.variance)
    both = of_value + share @ densities.kl(own.head, old[:, 1:], new[:, 1:])
    assert of_value > 1e-5
    assert float(report.scalars["step/kl_measured"]) == pytest.approx(float(both), rel=1e-9)
    assert 1e-3 < both <= 0.01


@every_head
def test_packed_actions_come_back_as_they_were(head):
    case, own = given(head)
    targets = randn(12, seed=3)
    packed = case.head.pack(targets, own.samples.actions)
    assert packed.dtype == torch.float64 and packed.shape == case.samples.actions.shape
    found, actions = case.head.unpack(packed)
    assert torch.equal(found, targets[:, None])
    assert torch.equal(actions, own.samples.actions) and actions.dtype == own.samples.actions.dtype


def test_a_million_actions_are_packed_exactly_in_float32():
    head = Joint(Categorical(2**20), 1.0)
    actions = torch.tensor([0, 1, 2**20 - 1])
    assert torch.equal(head.unpack(head.pack(torch.zeros(3), actions))[1], actions)


def test_draws_of_both_parts_are_independent_with_right_moments():
    head, count = Joint(Categorical(2), 4.0), 40_000
    z = torch.tensor([[0.7, 0.4, -0.2]], dtype=torch.float64).expand(count, -1)
    noise = randn(count, head.noise_size, seed=1)
    targets, actions = head.unpack(head.sample(z, noise))
    p = z[0, 1:].softmax(0)[1]
    error = count**-0.5
    assert abs(targets.mean() - 0.7) < 4 * 2 * error and abs(targets.std() - 2) < 4 * 2 * error
    assert abs(actions.double().mean() - p) < 4 * 0.5 * error
    both = torch.stack([targets.squeeze(1), actions.double()])
    assert abs(torch.corrcoef(both)[0, 1]) < 4 * error
    assert close(head.mode(z[:1]), torch.tensor([[0.7, 0.0]], dtype=torch.float64), 0)


def test_a_weight_that_is_not_above_zero_is_refused():
    with pytest.raises(ValueError, match="value_weight must be a finite number above 0; got 0.0"):
        JointObjective(Surrogate(0.0), 0.0)
