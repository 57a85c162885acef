"""A step taken from a case along its gradient."""

import torch
from torch import Tensor

from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.parts import Solution
from rlopt.core.problem import Problem
from tests.support.oracles import Case

CONSTANT = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0, "total_iters": 1}

OPTIMIZERS = {
    "Adam": {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-5},
    "AdamW": {"lr": 0.03, "weight_decay": 0.1},
    "SGD": {"lr": 0.1},
    "SGD_momentum": {"lr": 0.1, "momentum": 0.9, "dampening": 0.1},
    "SGD_nesterov": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "RMSprop": {"lr": 0.02, "alpha": 0.9, "momentum": 0.5, "centered": True},
    "Adagrad": {"lr": 0.1, "initial_accumulator_value": 0.1},
    "Adadelta": {"lr": 0.5},
    "Adamax": {"lr": 0.03},
    "NAdam": {"lr": 0.03},
    "RAdam": {"lr": 0.03},
    "ASGD": {"lr": 0.05},
    "Rprop": {"lr": 0.01},
    "Adafactor": {"lr": 0.05},
}


def configured(kind: str) -> dict:
    return {"_target_": f"torch.optim.{kind.split('_')[0]}", **OPTIMIZERS[kind]}


def problem(case: Case, theta: Tensor | None = None) -> Problem:
    tape, surrogate = (
        case.tape if theta is None else case.network.tape(theta, case.samples.inputs),
        Surrogate(entropy=0.0),
    )
    value = case.samples.mean(surrogate.values(case.head, tape.outputs, case.samples))
    return Problem(case.network, case.head, surrogate, case.samples, tape, value)


def along(x: Tensor, quadratic: Tensor | float = 1.0, damping: float = 0.0) -> Solution:
    return Solution(x, 0.0, 0.0, torch.as_tensor(quadratic, dtype=x.dtype), damping)


def take(
    step,
    case: Case,
    x: Tensor,
    state=None,
    theta: Tensor | None = None,
    quadratic: Tensor | float = 1.0,
    slope: float = 1.0,
    damping: float = 0.0,
):
    """A step along x from theta, the case's own unless another is given."""
    there = problem(case, theta)
    theta = case.theta if theta is None else theta
    state = step.init(theta) if state is None else state
    return step.step(state, theta, along(x, quadratic, damping), torch.tensor(slope, dtype=x.dtype), there)


def shrinking_sigma(case: Case, by: float = 10.0) -> Tensor:
    """A direction that takes every sigma below 0."""
    x = torch.zeros_like(case.theta)
    x[-2:] = -by
    return x
