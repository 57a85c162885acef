"""Scheduled step: another step whose rate and radius follow one of torch's learning-rate schedulers, once per update.

    linear    r_k = r (1 - k / N)
    cosine    r_k = r (1 + cos(pi k / N)) / 2
    inverse   r_k = r / (1 + decay k)                    (Robbins and Monro 1951)
    kl_adaptive   by the KL of every epoch, see `kl_adaptive`

after k updates, N those of the whole run. Every number of RATES that the step has follows it, each from its own r: of
kl_clip rate and radius both. A radius is a squared length, so that alpha falls by the root of its factor.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor

from rlopt.core.checks import check
from rlopt.core.parts import Requirements, Solution, State, Step, Taken
from rlopt.core.problem import Problem
from rlopt.core.steps.kl_adaptive import KLAdaptiveLR
from rlopt.core.steps.optimizer import find_scheduler, moved_on

RATES = ("rate", "radius")


def follow(step: Step, scheduler: dict[str, Any]) -> Step:
    """The step with rate and radius by ``scheduler``; the step itself where that is constant. See `Scheduled`."""
    find_scheduler(scheduler)
    return step if scheduler.get("factor") == 1 else Scheduled(step, scheduler)


class Scheduled(Step):
    """``step`` with rate and radius by ``scheduler``; the state holds them, the scheduler's own and the step's.

    Options:
        step: the step, with the rate and radius of the first update.
        scheduler: ``_target_``, a class of torch.optim.lr_scheduler, InverseLR, which count updates, or KLAdaptiveLR,
            and its arguments.

    A rate or radius of 0 leaves theta where it is. Raises ValueError where the step has neither, or where the scheduler
    is unknown or does not take its arguments.
    """

    def __init__(self, step: Step, scheduler: dict[str, Any]):
        self.unscheduled = step
        self.names = [name for name in RATES if hasattr(step, name)]
        check(bool(self.names), "scheduler", f"constant with a step that has no {' and no '.join(RATES)}", scheduler)
        self._class, self._options = find_scheduler(scheduler)
        try:  # so that a wrong argument is found now; a scheduler looks at some of its own only when it moves
            self.advance(self.init(torch.zeros(1)))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"scheduler cannot work so: {error}") from error

    @property
    def adaptive(self) -> bool:  # type: ignore[override]  # it is the other step's
        return self.unscheduled.adaptive

    @property
    def requirements(self) -> Requirements:
        return self.unscheduled.requirements

    def init(self, theta: Tensor) -> State:
        optimizer = self._optimizer()
        schedule = self._class(optimizer, **self._options)
        return {"step": self.unscheduled.init(theta), **self._state(optimizer, schedule)}

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        at = copy(self.unscheduled)
        rates = {name: float(state["rates"][name]["lr"]) for name in self.names}
        for name, value in rates.items():
            object.__setattr__(at, name, value)  # a step is frozen, and asks for more than 0 when it is made
        theta, inner, scalars = at.step(state["step"], theta, solution, slope, problem)
        return theta, {**state, "step": inner}, {**scalars, **{f"step/{name}": x for name, x in rates.items()}}

    def advance(self, state: State) -> State:
        optimizer = self._optimizer()
        schedule = self._class(optimizer, **self._options)
        for group, name in zip(optimizer.param_groups, self.names, strict=True):
            group.update(state["rates"][name])
        moved_on(schedule, state["schedule"])
        return {"step": self.unscheduled.advance(state["step"]), **self._state(optimizer, schedule)}

    @property
    def adapts_to_kl(self) -> bool:
        """True where `adapt_to_kl` wants the KL of every epoch."""
        return issubclass(self._class, KLAdaptiveLR)

    def adapt_to_kl(self, state: State, kl: float) -> State:
        schedule = self._class(self._optimizer(), **self._options)
        return {**state, "rates": {name: schedule.adapted(group, kl) for name, group in state["rates"].items()}}

    def _optimizer(self) -> torch.optim.Optimizer:
        """What torch's schedulers act on: a group for each number, whose learning rate is that number."""
        return torch.optim.SGD([{"params": [torch.zeros(1)], "lr": getattr(self.unscheduled, n)} for n in self.names])

    def _state(self, optimizer: torch.optim.Optimizer, schedule: Any) -> State:
        groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        return {"rates": dict(zip(self.names, groups, strict=True)), "schedule": schedule.state_dict()}
