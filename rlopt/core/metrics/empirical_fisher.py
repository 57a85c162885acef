"""Empirical Fisher metric: C = s s^T, s = d log p(a | z) / dz at the action a that was taken (Roux et al. 2008, TONGA).

It assumes that the actions were drawn from the model as it is now: true in the first step after a rollout, when its
expectation is the Fisher matrix, and less so in every later one (Kunstner et al. 2019). For a value head a is the
target, so that s grows with the error and M with it: no curvature, but a matrix of second moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlopt.core.curvature import factored
from rlopt.core.heads import Head
from rlopt.core.parts import BATCH, PRODUCT, ROOT, SEMIDEFINITE, Bound, Metric, Objective, Requirements, State
from rlopt.core.samples import Samples
from rlopt.core.tapes.tape import Tape


@dataclass(frozen=True)
class EmpiricalFisher(Metric):
    """M = mean of J^T s s^T J over samples, with scores s of the actions that were taken. It has no options.

    For a value the score is (target - V) / variance. Units of M: squared log-probability per squared unit of theta.
    Source: Roux et al. 2008, TONGA; for what it is not, Kunstner et al. 2019.
    """

    supplies: ClassVar[frozenset[str]] = frozenset({BATCH, PRODUCT, ROOT, SEMIDEFINITE})
    requirements: ClassVar[Requirements] = Requirements(reads_actions=True)

    def bind(self, state: State, tape: Tape, head: Head, samples: Samples, objective: Objective) -> Bound:
        _, score = head.log_prob_and_score(tape.outputs, samples.actions)
        return factored(tape, samples.share, score[None]), state
