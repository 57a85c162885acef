"""Diagnostics: what a run records only every few updates or at its end, besides the scalars of every update.

| name                     | holds                                                                    | tab        |
|---|---|---|
| rollout/action_I         | number I of a rollout's actions, as drawn: before squashing and clipping | histograms |
| rollout/advantages       | a rollout's advantages, before they are normalised                       | histograms |
| evaluation/returns       | returns of the last evaluation; also sampled_evaluation/returns          | histograms |
| metric/log10_eigenvalues | sizes of the eigenvalues of the actor's metric, at the theta that acted  | histograms |
| metric/largest           | the largest of these eigenvalues, by magnitude                           | scalars    |
| metric/condition         | largest over smallest of the eigenvalues that were found: a lower bound  | scalars    |
| metric/negative          | how many of these eigenvalues are below 0                                | scalars    |
| step/signal              | length of the actor's update along the natural gradient, root of 2 nats  | scalars    |
| step/waste               | share of its KL divergence that lies elsewhere, see `rlopt.core.waste`   | scalars    |
| step/waste_residual      | of the natural gradient n that these two are measured with, by its g     | scalars    |
| policy/video             | the beginning of an evaluation's first episode                           | images     |

Signal and waste are measured on the rollout of now: with reuse.batches above 1 without the earlier ones, from which the
update learns too, and with advantages.normalise=minibatch by advantages that are not normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlopt.config.options import RunConfig
from rlopt.core.checks import NumericalFailure
from rlopt.core.curvature import PullBack
from rlopt.core.learner import host
from rlopt.core.parts import State
from rlopt.core.spectrum import ritz_values
from rlopt.core.update import value_and_gradient
from rlopt.core.waste import waste
from rlopt.parallel.collectives import all_sum
from rlopt.rollout.buffer import Rollout
from rlopt.training.agent import Agent

_PRODUCTS = 50  # matrix-vector products for a spectrum, and at most for the natural gradient
_HISTOGRAMS = 500  # in a whole run; TensorBoard shows no more of them


@dataclass(frozen=True)
class Diagnostics:
    """Diagnostics of one update, by their names in the table above."""

    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, NDArray[Any]] = field(default_factory=dict)


def compute_diagnostics(
    config: RunConfig,
    update: int,
    agent: Agent,
    state: State,
    after: State,
    rollout: Rollout,
    quantities: Mapping[str, Tensor],
) -> Diagnostics:
    """The diagnostics that are due at update number ``update``, from 1, which led from ``state`` to ``after``.

    ``rollout`` is of the policy of ``state``; ``quantities`` are the update's, advantages (B,) among them. With several
    ranks each sees its own part of the rollout.
    """
    found, record = Diagnostics(), config.record
    if _due(record.histograms_every, update, least=-(-(config.updates or 1) // _HISTOGRAMS)):
        happened = rollout.mask.flatten().bool().cpu().numpy()
        actions = rollout.actions.flatten(0, 1).reshape(len(happened), -1).cpu().numpy()[happened]
        found.histograms.update({f"rollout/action_{i}": column for i, column in enumerate(actions.T)})
        if "advantage" in quantities:
            found.histograms["rollout/advantages"] = quantities["advantage"].cpu().numpy()[happened]
    if _due(record.spectrum_every, update):
        values = _spectrum(agent, state, rollout)
        sizes = np.abs(values)
        if len(values):
            found.histograms["metric/log10_eigenvalues"] = np.log10(sizes)
            found.scalars["metric/largest"] = float(values[sizes.argmax()])
            found.scalars["metric/condition"] = float(sizes.max() / sizes.min())
            found.scalars["metric/negative"] = float((values < 0).sum())
    if _due(record.waste_every, update):
        found.scalars.update(_waste(agent, state, after, rollout))
    return found


def _due(every: int | None, update: int, least: int = 1) -> bool:
    return every is not None and (update - 1) % max(every, least) == 0


@torch.no_grad()
def _spectrum(agent: Agent, state: State, rollout: Rollout) -> NDArray[Any]:
    """Estimates of the metric's nonzero eigenvalues, least first; empty where the metric cannot be formed."""
    update, actor = agent.actor.update, state["actor"]
    theta = actor["theta"]
    try:
        samples = agent.actor_samples(state, rollout)
        tape = update.network.tape(theta, samples.inputs)
        objective, history = update.current_objective(actor["parts"]), actor["parts"]["metric"]
        curvature, _ = update.metric.bind(history, tape, update.head, samples, objective)
        return ritz_values(curvature, theta, _PRODUCTS, seed=0).double().cpu().numpy()
    except NumericalFailure:
        return np.empty(0)


@torch.no_grad()
def _waste(agent: Agent, state: State, after: State, rollout: Rollout) -> dict[str, float]:
    """Signal and waste of the policy's update; nothing where it has not moved, or where a number is not finite.

    g is that of the objective without the l2 term, which F knows nothing of.
    """
    update, actor = agent.actor.update, state["actor"]
    theta = actor["theta"]
    delta = after["actor"]["theta"] - theta
    if not delta.any():
        return {}
    try:
        samples = agent.actor_samples(state, rollout)
    except NumericalFailure:
        return {}
    tape, head = update.network.tape(theta, samples.inputs), update.head
    _, own = value_and_gradient(tape, head, update.current_objective(actor["parts"]), samples)
    g = all_sum(own)
    fisher = PullBack(tape, samples.share, head.fisher_product(tape.outputs))
    return host(waste(fisher, g, delta, _PRODUCTS))
