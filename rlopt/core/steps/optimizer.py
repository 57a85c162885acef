"""Optimizer step: any torch.optim class over the one flat theta, with any torch learning-rate scheduler.

The optimizer minimises, so it is given -x. Its moments are the state, changed in place and only by finite directions;
the torch objects are mere functions of it, bound to the state that a step is given. Schedulers move once per update.
"""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from rlopt.core.arrays import add_one_, squared_length
from rlopt.core.checks import check, positive
from rlopt.core.parts import Solution, State, Step, Taken
from rlopt.core.problem import Problem
from rlopt.core.steps.history import SGDWithHistory
from rlopt.core.steps.kl_adaptive import KLAdaptiveLR

# momentum and averaging keep the direction's geometry; every other optimizer rescales coordinates
_KEEPS_GEOMETRY = ("SGD", "ASGD", "SGDWithHistory")
_KERNELS = {"Adam": "_fused_adam_", "AdamW": "_fused_adamw_"}
# need a closure, sparse gradients, matrices, a measured loss, or functions and objects that no yaml can hold
_UNUSABLE = {
    "LBFGS",
    "SparseAdam",
    "Muon",
    "ReduceLROnPlateau",
    "LambdaLR",
    "MultiplicativeLR",
    "ChainedScheduler",
    "SequentialLR",
    "_LRScheduler",
}


class InverseLR(LRScheduler):
    """Learning rate that falls as 1/k: lr_k = lr / (1 + decay k) after k updates (Robbins and Monro 1951).

    Its sum diverges and the sum of its squares does not, which is what stochastic approximation asks for. ``decay``,
    above 0 or ValueError, is per update and relative to the first rate: 1 makes lr / (1 + k).
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float, last_epoch: int = -1):
        positive("decay", decay)
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch types it more widely
        return [float(lr) / (1 + self.decay * self.last_epoch) for lr in self.base_lrs]


class Optimizer(Step):
    """One step of a torch optimizer along x, on the whole of theta at once; the state holds its moments.

    Options:
        optimizer: ``_target_``, a class of torch.optim such as Adam, or SGDWithHistory, and its arguments, with torch's
            units and ranges.
        scheduler: ``_target_``, a class of torch.optim.lr_scheduler, InverseLR, which count updates, or KLAdaptiveLR,
            and its arguments.
        max_norm: the Euclidean length to which a longer x is shortened; above 0, or null for never.

    Optimizers that rescale coordinates (all but SGD, ASGD and SGDWithHistory) are ``adaptive``. Where the step leaves
    the policy's domain it is rejected. Raises ValueError where a class is unknown or does not take its arguments.
    """

    def __init__(self, optimizer: dict[str, Any], scheduler: dict[str, Any], max_norm: float | None):
        if max_norm is not None:
            positive("max_norm", max_norm)
        self.max_norm = max_norm  # the direction is shortened to this Euclidean length
        self._class, self._options = _find(torch.optim, torch.optim.Optimizer, "optimizer", optimizer, SGDWithHistory)
        self._scheduler_class, self._scheduler_options = find_scheduler(scheduler)
        # as it is, this method imports torch's compiler when it is first called: most of a second, for nothing
        plain = {"add_param_group": inspect.unwrap(self._class.add_param_group)}
        self._class = type(self._class.__name__, (self._class,), plain)
        self.adaptive = self._class.__name__ not in _KEEPS_GEOMETRY
        other = self._options.get("foreach") or self._options.get("differentiable")
        if "fused" in inspect.signature(self._class).parameters and not other:
            self._options.setdefault("fused", True)
        # without torch's hooks, profiler marks and grad mode, which cost more than the fused kernel itself
        self._step = inspect.unwrap(self._class.step)
        # for Adam the kernel itself, once there are moments: it takes a third of the time of torch's bare step
        name = self._class.__name__
        if name == "Adam" and self._options.get("decoupled_weight_decay"):
            name = "AdamW"  # torch takes the option so
        self._kernel = getattr(torch, _KERNELS.get(name, ""), None)
        self._bound: tuple[Tensor, State] | None = None
        try:  # so that a wrong argument is found now; a scheduler looks at some of its own only when it moves
            self._movable = self._make(torch.zeros(1))  # for `advance`, which gives it the state that it moves
            self.advance(_snapshot(*self._movable, {}))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"optimizer or scheduler cannot work so: {error}") from error

    def init(self, theta: Tensor) -> State:
        optimizer, scheduler = self._make(theta)
        self._optimizer, self._scheduler, self._bound = optimizer, scheduler, None
        return _snapshot(optimizer, scheduler, dict(optimizer.state.get(theta, {})))

    def step(self, state: State, theta: Tensor, solution: Solution, slope: Tensor, problem: Problem) -> Taken:
        x = solution.x
        if self.max_norm is not None:
            x = shortened(x, solution.squared, self.max_norm)
        if problem.head.bounded:  # the step may have to be taken back: work on copies
            copy, copied = theta.clone(), {**state, "moments": _copy(state["moments"])}
            self._apply(copy, copied, x)
            accepted = problem.in_domain(copy)
            theta, state = (copy, copied) if accepted else (theta, state)
        else:
            accepted = True
            self._apply(theta, state, x)
        return theta, state, {"step/size": state["group"]["lr"], "step/accepted": float(accepted)}

    def advance(self, state: State) -> State:
        optimizer, scheduler = self._movable
        optimizer.param_groups[0].update(state["group"])
        moved_on(scheduler, state["schedule"])
        self._bound = None
        return _snapshot(optimizer, scheduler, state["moments"])

    @property
    def adapts_to_kl(self) -> bool:
        """True where `adapt_to_kl` wants the KL of every epoch."""
        return issubclass(self._scheduler_class, KLAdaptiveLR)

    def adapt_to_kl(self, state: State, kl: float) -> State:
        return {**state, "group": self._movable[1].adapted(state["group"], kl)}

    def _apply(self, theta: Tensor, state: State, x: Tensor) -> None:
        group, moments = state["group"], state["moments"]
        if self._kernel and group.get("fused") and moments:
            largest = [moments["max_exp_avg_sq"]] if group["amsgrad"] else []
            averages = [moments["exp_avg"]], [moments["exp_avg_sq"]], largest, [add_one_(moments["step"])]
            options = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad")}
            beta1, beta2 = group["betas"]
            self._kernel([theta], [x], *averages, beta1=beta1, beta2=beta2, maximize=not group["maximize"], **options)
            return
        optimizer = self._bind(theta, state)
        theta.grad = -x
        self._step(optimizer)
        theta.grad = None

    def _bind(self, theta: Tensor, state: State) -> torch.optim.Optimizer:
        """The torch optimizer as a function of (theta, state): it writes its moments into state["moments"]."""
        if self._bound is None or self._bound[0] is not theta or self._bound[1] is not state:
            if not hasattr(self, "_optimizer"):
                self._optimizer, self._scheduler = self._make(theta)
            group = self._optimizer.param_groups[0]
            group["params"] = [theta]
            group.update(state["group"])
            self._optimizer.state.clear()
            if state["moments"]:
                self._optimizer.state[theta] = state["moments"]
            else:
                state["moments"] = self._optimizer.state[theta]
            self._bound = theta, state
        return self._optimizer

    def _make(self, theta: Tensor) -> tuple[torch.optim.Optimizer, Any]:
        optimizer = self._class([theta], **self._options)
        return optimizer, self._scheduler_class(optimizer, **self._scheduler_options)


def shortened(x: Tensor, squared: Tensor | float | None, longest: float) -> Tensor:
    """x (P,), no longer than ``longest``; ``squared`` is x^T x, where it is known."""
    squared = squared_length(x) if squared is None else squared
    if isinstance(squared, Tensor):  # on a device, which nothing waits for
        return x * (longest / (squared.sqrt() + 1e-6)).clamp_(max=1.0)
    factor = longest / (math.sqrt(squared) + 1e-6)
    return torch.from_numpy(x.numpy() * factor) if factor < 1 else x


def find_scheduler(config: dict[str, Any]) -> tuple[type[Any], dict[str, Any]]:
    """The scheduler that ``_target_`` names, and its arguments. Raises ValueError where it is none, or takes others."""
    return _find(torch.optim.lr_scheduler, LRScheduler, "scheduler", config, InverseLR, KLAdaptiveLR)


def moved_on(scheduler: Any, state: State) -> None:
    """Move the scheduler, whose state was ``state``, by one update."""
    scheduler.load_state_dict(state)
    with warnings.catch_warnings():  # the optimizer's steps came first, as torch asks, but of another object
        warnings.filterwarnings("ignore", "Detected call of")
        scheduler.step()


def _snapshot(optimizer: Any, scheduler: Any, moments: State) -> State:
    group = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    return {"group": group, "schedule": scheduler.state_dict(), "moments": moments}


def _copy(moments: State) -> State:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in moments.items()}


def _find(
    module: Any, base: type, kind: str, config: dict[str, Any], *others: type
) -> tuple[type[Any], dict[str, Any]]:
    """The class that ``_target_`` names, of a torch module or of ``others``, and the rest as its arguments."""
    options = dict(config)
    target = options.pop("_target_", None)
    known = {f"{module.__name__}.{name}": c for name, c in vars(module).items() if name not in _UNUSABLE}
    known |= {f"{c.__module__}.{c.__name__}": c for c in others}
    known = {name: c for name, c in known.items() if inspect.isclass(c) and issubclass(c, base) and c is not base}
    check(str(target) in known, f"{kind}._target_", f"one of {', '.join(sorted(known))}", target)
    found, name = known[str(target)], known[str(target)].__name__
    _, *takes = inspect.signature(found).parameters.values()  # the first is theta, or the optimizer
    needed = {p.name for p in takes if p.default is p.empty}
    choices = ", ".join(f"{p.name} (needed)" if p.name in needed else p.name for p in takes)
    accepted = needed <= set(options) <= {p.name for p in takes}
    check(accepted, kind, f"{name} with arguments out of {choices}", ", ".join(sorted(options)))
    for p in takes:
        if p.name in options:
            _check_like(f"{kind}.{p.name}", p.default, options[p.name])
    return found, options


def _check_like(name: str, default: Any, value: Any) -> None:
    """Raise ValueError where ``value`` is of another kind than torch's own default."""
    if isinstance(default, bool):
        check(isinstance(value, bool), name, "true or false", value)
    elif isinstance(default, (int, float)):
        check(isinstance(value, (int, float)) and not isinstance(value, bool), name, "a number", value)
    elif isinstance(default, tuple):
        alike = isinstance(value, (list, tuple)) and len(value) == len(default)
        check(alike, name, f"a list of {len(default)}", value)
        for i, (d, v) in enumerate(zip(default, value, strict=True)):
            _check_like(f"{name}[{i}]", d, v)
