"""Updates with an estimator of the gradient, on one new batch of the acting policy's samples after another."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlopt.core.damping.constant import Constant
from rlopt.core.metrics.identity import Identity as Euclidean
from rlopt.core.parts import Estimator
from rlopt.core.solvers.identity import Identity
from rlopt.core.steps.fixed import Fixed
from rlopt.core.update import Update
from tests.support.densities import log_prob
from tests.support.oracles import Case, draw, outputs, randn
from tests.support.weighing import OBJECTIVE

RATE, TRACE = 0.3, 0.8


class Done(NamedTuple):
    """One update: theta (P,) before and after it, and the state after it."""

    before: Tensor
    after: Tensor
    state: dict[str, Any]


def make_update(case: Case, estimator: Estimator, step: Any = Fixed(RATE), l2: float = 0.0) -> Update:  # noqa: B008
    parts = (OBJECTIVE, Euclidean(), Identity(), Constant(0.0), step, l2)
    return Update(case.network, case.head, *parts, estimator=estimator, trace=TRACE)


def batches(case: Case, count: int) -> list[Callable[[Tensor], Case]]:
    """Functions of the acting theta (P,), each of which makes another batch of the same size: the case with it."""

    def make(i: int) -> Callable[[Tensor], Case]:
        def at(theta: Tensor) -> Case:
            inputs = randn(len(case.samples), 3, seed=100 + i)
            z = outputs(case.module, theta, inputs).detach()
            actions = draw(case.head, z, 200 + i)
            samples = case.samples.replacing(
                inputs=inputs, actions=actions, old_outputs=z, old_log_prob=log_prob(case.head, z, actions),
                advantages=randn(len(inputs), seed=300 + i),
            )  # fmt: skip
            return replace(case, samples=samples)

        return at

    return [make(i) for i in range(count)]


def steps(case: Case, estimator: Estimator, count: int) -> list[Done]:
    """Updates from the case's theta, each on a new batch of the policy that it starts from."""
    update, theta = make_update(case, estimator), case.theta
    state, found = update.init(theta), []
    for at in batches(case, count):
        with torch.no_grad():
            moved, state, report = update(theta, state, at(theta).samples)
        assert report.failure is None
        found.append(Done(theta, moved, state))
        theta = moved
    return found
