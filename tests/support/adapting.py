"""Updates whose damping adapts, with every kind of step."""

import torch
from torch import Tensor

from rlopt.core.damping.levenberg_marquardt import LevenbergMarquardt
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.steps.armijo import Armijo
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_clip import KLClip
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from rlopt.core.update import Update
from tests.support import oracles
from tests.support.oracles import Case, make_case

LM = LevenbergMarquardt(
    value=0.1, low=0.25, high=0.75, factor_up=4.0, factor_down=0.5, smallest=1e-8, largest=1e8
)  # fmt: skip
SGD = Optimizer(
    {"_target_": "torch.optim.SGD", "lr": 0.5, "momentum": 0.5},
    {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0, "total_iters": 1},
    max_norm=None,
)
LINE_SEARCH = KLLineSearch(0.05, shrink=0.8, backtracks=10, accept_ratio=0.0, largest=1e6)
STEPS = {
    "fixed": Fixed(0.7),
    "trust_region": TrustRegion(0.05, 1e3),
    "kl_clip": KLClip(1.0, 0.05, 0.5),
    "kl_line_search": LINE_SEARCH,
    "armijo": Armijo(1.0, 0.5, 20, 1e-4),
    "sgd": SGD,
}


def updating(case: Case, metric, solver, damping, step, objective=None) -> Update:
    return Update(case.network, case.head, objective or Surrogate(0.0), metric, solver, damping, step)


def value_case(**options) -> Case:
    return make_case("value", weights="masked", **options)


def gauss_newton(case: Case) -> Tensor:
    J = oracles.jacobian(case)
    return torch.einsum("b,boi,boj->ij", oracles.share(case.samples), J, J) / case.head.variance
