"""Agreement rho of the metric's quadratic model with what a step d really did: what an adaptive damping learns from.

    M models minus the objective's Hessian:   rho = improvement measured / (g^T d - 1/2 d^T M d)   (Martens 2010, 4.1)
    1/2 d^T M d models KL, in nats:           rho = (1/2 d^T M d) / KL measured

So rho is 1 for a model that holds, and falls where the step was worse than foreseen: it gained less, or moved the
policy further. M is the metric itself, not a solver's approximation of it, as in K-FAC (Martens and Grosse 2015, 6.5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlopt.core.curvature import Curvature
from rlopt.core.parts import KL, OBJECTIVE, Damping, Metric, Scalars
from rlopt.core.problem import Problem


def refused(damping: Damping, metric: Metric, where: str = "") -> str | None:
    """Why this damping cannot learn from this metric, or None; the options' names start with ``where``."""
    if not damping.measures or {KL, OBJECTIVE} & metric.supplies:
        return None
    return (
        f"it compares a model with what was measured, so {where}metric must be fisher, ggn or hessian, or "
        f"{where}damping constant"
    )


def agreement(
    metric: Metric, curvature: Curvature, g: Tensor, d: Tensor, theta: Tensor, problem: Problem, scalars: Scalars
) -> Tensor:
    """rho () of the step d (P,) to theta (P,); NaN where the model foresaw, or KL showed, nothing above 0.

    What the step measured itself is read from its scalars; else it is measured now, on the same samples.
    """
    name = "step/improvement_measured" if OBJECTIVE in metric.supplies else "step/kl_measured"
    measured = scalars.get(name)
    if measured is None:
        trial = problem.trial(theta)
        measured = trial.objective - problem.value if OBJECTIVE in metric.supplies else trial.kl
    half = torch.dot(d, curvature.product(d)) / 2
    if OBJECTIVE in metric.supplies:
        actual, model = measured, torch.dot(g, d) - half - problem.l2 / 2 * torch.dot(d, d)
    else:
        actual, model = half, torch.as_tensor(measured)
    return torch.where(model > 0, actual / model, torch.nan)
