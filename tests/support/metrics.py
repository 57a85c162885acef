"""The metrics and objectives whose definitions the tests write out, bound to a case."""

import functools

import torch
from torch import Tensor

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
from rlopt.core.objectives.spo import SPO
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from tests.support import oracles
from tests.support.oracles import Case, make_case, share

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

ENTROPY = 0.05
OBJECTIVES = {
    "log_prob": LogProb(ENTROPY),
    "surrogate": Surrogate(ENTROPY),
    "clipped": Clipped(0.2, ENTROPY),
    "spo": SPO(0.2, ENTROPY),
    "value": Value(),
}


@functools.cache
def given(head: str, tape: str, weights: str) -> Case:
    """A policy that has moved away from the one that acted, so that ratios differ from 1 and some are clipped."""
    return make_case(head, tape, weights, count=9, hidden=(4, 3), moved=0.3)


def bind(metric, case: Case, objective=None, state=None):
    return metric.bind(metric.init() if state is None else state, case.tape, case.head, case.samples, objective)


def pulled(case: Case, U: Tensor) -> Tensor:
    """sum_b share_b J_b^T sum_k u_kb u_kb^T J_b, by the Jacobian of torch.func."""
    rows = torch.einsum("kbo,bop->kbp", U, oracles.jacobian(case))
    return torch.einsum("b,kbp,kbq->pq", share(case.samples), rows, rows)
