"""Looks: what a run records now and then, besides the scalars of every update.

| name                     | is                                                                          | tab        |
|---|---|---|
| rollout/action_I         | number I of a rollout's actions, as drawn: before squashing and clipping    | histograms |
| rollout/advantages       | of a rollout, before they are normalised                                    | histograms |
| evaluation/returns       | of the episodes of the last evaluation; also sampled_evaluation/returns     | histograms |
| metric/log10_eigenvalues | of their magnitudes: the actor's metric, at the theta that acted (spectrum) | histograms |
| metric/largest           | eigenvalue, by magnitude                                                    | scalars    |
| metric/condition         | largest over smallest of those that were found, a lower bound               | scalars    |
| metric/negative          | how many of them are below 0                                                | scalars    |
| policy/video             | an episode of the evaluation's, its beginning                               | images     |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlopt.core.checks import at_least_one
from rlopt.core.failure import NumericalFailure
from rlopt.core.parts import State
from rlopt.core.spectrum import ritz_values
from rlopt.rollout.buffer import Rollout
from rlopt.training.agent import Agent

_PRODUCTS = 50  # with M, for a spectrum


@dataclass(frozen=True)
class RecordOptions:
    """What is recorded; see ``record`` in conf/config.yaml."""

    tensorboard: bool
    csv: bool
    histograms_every: int | None  # updates; None: never
    spectrum_every: int | None
    video_steps: int | None  # of an episode, at the end; None: no video

    def __post_init__(self) -> None:
        for name in ("histograms_every", "spectrum_every", "video_steps"):
            if getattr(self, name) is not None:
                at_least_one(name, getattr(self, name))


@dataclass(frozen=True)
class Diagnostics:
    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, NDArray[Any]] = field(default_factory=dict)


def look(
    recording: RecordOptions, update: int, agent: Agent, state: State, batch: Rollout, seen: Mapping[str, Tensor]
) -> Diagnostics:
    """At update number ``update``, counted from 1, which learned from ``batch`` of the policy of ``state``.

    ``seen`` are the update's own quantities, advantages (B,) among them. Of several ranks each looks at its part.
    """
    found = Diagnostics()
    if _due(recording.histograms_every, update):
        happened = batch.mask.flatten().bool().numpy()
        actions = batch.actions.flatten(0, 1).reshape(len(happened), -1).numpy()[happened]
        found.histograms.update({f"rollout/action_{i}": column for i, column in enumerate(actions.T)})
        if "advantage" in seen:
            found.histograms["rollout/advantages"] = seen["advantage"].numpy()[happened]
    if _due(recording.spectrum_every, update):
        values = _spectrum(agent, state, batch)
        sizes = np.abs(values)
        if len(values):
            found.histograms["metric/log10_eigenvalues"] = np.log10(sizes)
            found.scalars.update({
                "metric/largest": float(values[sizes.argmax()]),
                "metric/condition": float(sizes.max() / sizes.min()),
                "metric/negative": float((values < 0).sum()),
            })  # fmt: skip
    return found


def _due(every: int | None, update: int) -> bool:
    return every is not None and (update - 1) % every == 0


@torch.no_grad()
def _spectrum(agent: Agent, state: State, batch: Rollout) -> NDArray[Any]:
    """Estimates of the metric's eigenvalues other than 0, least first; none where it cannot be formed."""
    update, actor = agent.actor.update, state["actor"]
    theta = actor["theta"]
    try:
        samples = agent.actor_samples(state, batch)
        tape = update.network.tape(theta, samples.inputs)
        objective, history = update.current_objective(actor["parts"]), actor["parts"]["metric"]
        curvature, _ = update.metric.bind(history, tape, update.head, samples, objective)
        return ritz_values(curvature, theta, _PRODUCTS, seed=0).double().cpu().numpy()
    except NumericalFailure:
        return np.empty(0)
