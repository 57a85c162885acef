"""SGD with history: the gradient now and the one before, each with a rate of its own (Soto, Gradient Descent for DL).

    w_t = w_(t-1) - (lr G_t + tau G_(t-1)),   G_0 = 0

Momentum takes all gradients before, weighted tau, tau^2, ... Like it this is linear in the gradients, and so keeps a
metric's geometry. Where a scheduler lowers lr, tau falls in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rlopt.core.checks import non_negative


class SGDWithHistory(torch.optim.Optimizer):
    """A torch optimizer whose state holds one gradient for each parameter.

    Options:
        lr: rate of the gradient, in units of theta over those of the gradient; 0 or above.
        tau: rate of the gradient before, in the same units, at the lr of the first update; 0 or above.

    Source: Soto, Gradient Descent for DL, SGD + History. Raises ValueError where an option is out of its range.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.01, tau: float = 0.005):
        non_negative("lr", lr)
        non_negative("tau", tau)
        super().__init__(params, {"lr": lr, "tau": tau})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # there is no loss to measure
        for group in self.param_groups:
            first = group.get("initial_lr", group["lr"])  # before a scheduler changed it
            tau = group["tau"] * group["lr"] / first if first else group["tau"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                w.add_(w.grad, alpha=-group["lr"])
                if "previous" in state:
                    w.add_(state["previous"], alpha=-tau)
                    state["previous"].copy_(w.grad)
                else:
                    state["previous"] = w.grad.clone()
