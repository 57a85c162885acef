"""Updates of every preset, counted and watched, as the tests of an update and of a learner make them."""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.fisher import Fisher
from rlopt.core.metrics.identity import Identity as IdentityMetric
from rlopt.core.objectives.clipped import Clipped
from rlopt.core.objectives.log_prob import LogProb
from rlopt.core.objectives.spo import SPO
from rlopt.core.objectives.surrogate import Surrogate
from rlopt.core.objectives.value import Value
from rlopt.core.parts import EUCLIDEAN, PRODUCT, ROOT
from rlopt.core.requirements import Requirements
from rlopt.core.solvers.cg import CG
from rlopt.core.solvers.dense import Dense
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.kl_line_search import KLLineSearch
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from rlopt.core.update import Update
from tests.support.oracles import Case

cg = partial(CG, preconditioner=None, start="cold", decay=0.0)
LINEAR = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 8}
OBJECTIVES = {
    "log_prob": LogProb(entropy=0.0),
    "surrogate": Surrogate(entropy=0.0),
    "clipped": Clipped(clip=0.2, entropy=0.0),
    "spo": SPO(distance=0.2, entropy=0.0),
    "value": Value(),
}


def adam() -> Optimizer:
    return Optimizer({"_target_": "torch.optim.Adam", "lr": 0.02}, LINEAR, max_norm=0.5)


def line_search(radius: float = 0.01, accept_ratio: float = 0.0) -> KLLineSearch:
    return KLLineSearch(radius, shrink=0.8, backtracks=10, accept_ratio=accept_ratio, largest=1e6)


@dataclass(frozen=True)
class Counting:
    """A part whose state counts how often it was used, around a part that has none."""

    part: object
    supplies: ClassVar[frozenset[str]] = frozenset({PRODUCT, ROOT, EUCLIDEAN})
    needs: ClassVar[frozenset[str]] = frozenset({PRODUCT})
    measures: ClassVar[bool] = False
    requirements: ClassVar[Requirements] = Requirements()

    def init(self):
        return {"used": torch.zeros(2, dtype=torch.float64)}

    def bind(self, state, *arguments):
        return self.part.bind({}, *arguments)[0], {"used": state["used"] + 1}

    def prepare(self, state, curvature, damping):
        return self.part.prepare({}, curvature, damping)[0], {"used": state["used"] + 1}

    def current(self, state):
        return self.part.current({})

    def adapt(self, state, scalars):
        return {"used": state["used"] + 1}


class Watching:
    """A step that takes none and keeps the direction it was given."""

    adaptive = False
    requirements = Requirements()

    def init(self, theta):
        return {}

    def step(self, state, theta, solution, slope, problem):
        self.x, self.slope = solution.x, slope
        return theta, state, {"step/size": 0.0, "step/accepted": 0.0}


PRESETS = {
    "vpg": lambda: (LogProb(0.01), IdentityMetric(), Identity(), Constant(0.0), adam()),
    "npg": lambda: (Surrogate(0.0), Fisher(None, 0), cg(10, 1e-10), Constant(1e-3), TrustRegion(0.01, 1e3)),
    "npg_dense": lambda: (Surrogate(0.0), Fisher(None, 0), Dense("refuse"), Constant(1e-3), Fixed(0.1)),
    "trpo": lambda: (Surrogate(0.0), Fisher(None, 0), cg(10, 1e-10), Constant(1e-3), line_search()),
    "ppo": lambda: (Clipped(0.2, 0.01), IdentityMetric(), Identity(), Constant(0.0), adam()),
}
every_preset = pytest.mark.parametrize("preset", PRESETS)


def make_update(case: Case, *parts) -> Update:
    return Update(case.network, case.head, *parts)


def make_preset(case: Case, preset: str) -> Update:
    """The preset with every part but the step counting in its state what it was used for."""
    objective, metric, solver, damping, step = PRESETS[preset]()
    return make_update(case, objective, Counting(metric), Counting(solver), Counting(damping), step)


def used(state) -> tuple[int, int, int]:
    return tuple(int(state[part]["used"][0]) for part in ("metric", "solver", "damping"))


def direction(case: Case, objective, metric, solver, damping: float = 0.0) -> Tensor:
    """x as the update hands it to its step."""
    step = Watching()
    update = make_update(case, objective, metric, solver, Constant(damping), step)
    _, _, report = update(case.theta, update.init(case.theta), case.samples)
    assert report.failure is None
    return step.x


def gradient(case: Case, objective) -> Tensor:
    return direction(case, objective, IdentityMetric(), Identity())


def poisoned(case: Case, where: str, bad: float) -> Case:
    if where == "theta":
        theta = case.theta.clone()
        theta[-1] = bad
        return replace(case, theta=theta)
    values = getattr(case.samples, where).clone()
    values.view(-1)[4] = bad
    return replace(case, samples=replace(case.samples, **{where: values}))
