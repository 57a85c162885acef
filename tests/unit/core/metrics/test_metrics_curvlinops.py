"""Metrics against curvlinops-for-pytorch (Dangel et al. 2025); skipped where it is not installed."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from rlopt.core.heads import Categorical, DiagonalGaussian, Value
from rlopt.core.metrics.empirical_fisher import EmpiricalFisher
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.ggn import GGN
from rlopt.core.metrics.gradient_covariance import GradientCovariance
from rlopt.core.metrics.hessian import Hessian
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.value import Value as ValueObjective
from tests.support.oracles import TAPES, Case, close, eye, make_case

with warnings.catch_warnings():  # its dependencies use what torch deprecates
    warnings.simplefilter("ignore")
    curvlinops = pytest.importorskip("curvlinops")

# head, loss whose mean is minus our objective but for a constant, objective
SETTINGS = {
    "categorical": (Categorical(3), nn.CrossEntropyLoss(), LogProb(0.0)),
    "value": (Value(0.5), nn.MSELoss(), ValueObjective()),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS)
every_tape = pytest.mark.parametrize("tape", TAPES)


def likelihood(head, tape: str) -> Case:
    """Samples of one weight, with advantages 1: the objective is the mean log-likelihood."""
    case = make_case(head, tape, "uniform", moved=0.3)
    ones = torch.ones_like(case.samples.advantages)
    return Case(case.module, case.network, case.head, case.theta, case.samples.replacing(advantages=ones))


def theirs(operator: str, case: Case, loss, targets: Tensor) -> Tensor:
    """(P, P) their matrix at the module's own parameters, which are those of theta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = [(case.samples.inputs, targets)]
        linear = getattr(curvlinops, operator)(case.module, loss, list(case.module.parameters()), data)
        return (linear @ eye(len(case.theta))).detach()


def ours(metric, case: Case, objective) -> Tensor:
    return metric.bind(metric.init(), case.tape, case.head, case.samples, objective)[0].dense()


@every_tape
@every_setting
def test_hessian(setting, tape):
    head, loss, objective = SETTINGS[setting]
    case = likelihood(head, tape)
    M = theirs("HessianLinearOperator", case, loss, case.samples.actions)
    assert torch.linalg.eigvalsh(M).min() < -1e-3
    assert close(ours(Hessian(), case, objective), M, 1e-10)


@every_tape
@every_setting
def test_ggn_is_also_the_fisher_matrix(setting, tape):
    head, loss, objective = SETTINGS[setting]
    case = likelihood(head, tape)
    M = theirs("GGNLinearOperator", case, loss, case.samples.actions)
    for metric in (GGN("clipped"), GGN("signed"), Fisher(None, 0)):
        assert close(ours(metric, case, objective), M, 1e-10)


@every_tape
@every_setting
def test_empirical_fisher_is_gradient_covariance_of_likelihood(setting, tape):
    head, loss, objective = SETTINGS[setting]
    case = likelihood(head, tape)
    M = theirs("EFLinearOperator", case, loss, case.samples.actions)
    for metric in (EmpiricalFisher(), GradientCovariance(centred=False)):
        assert close(ours(metric, case, objective), M, 1e-10)


class MeanKL(nn.Module):
    """Mean KL from the Gaussian of the target outputs (mean, log sigma) to that of the outputs."""

    reduction = "mean"

    def forward(self, new: Tensor, old: Tensor) -> Tensor:
        (mean, log_sigma), (to_mean, to_log_sigma) = old.chunk(2, -1), new.chunk(2, -1)
        ratio = ((2 * log_sigma).exp() + (mean - to_mean) ** 2) * (-2 * to_log_sigma).exp()
        return (to_log_sigma - log_sigma + (ratio - 1) / 2).sum(-1).mean()


@every_tape
def test_fisher_of_mean_and_scale_is_their_ggn_of_the_divergence(tape):
    case = likelihood(DiagonalGaussian(2, per_state=True), tape)
    M = theirs("GGNLinearOperator", case, MeanKL(), case.tape.outputs)
    assert close(ours(Fisher(None, 0), case, None), M, 1e-10)
